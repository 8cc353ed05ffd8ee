"""Images as they might have been: mirrored, or moved a little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

__all__ = ["Augmentation", "augmented"]

Augmentation = Literal["mirror", "shift"]

_PART = 16
"""Images are moved by up to their side divided by this."""


def augmented(
    images: np.ndarray, kinds: Sequence[Augmentation], rng: np.random.Generator
) -> np.ndarray:
    """Images, each changed by chance.

    Args:
      images: square, [n, s, s, 3].
      kinds: "mirror" swaps left and right of about half of them; "shift" moves each by up to a 16th
        of its side, down and across, with what lies at the edge mirrored into where nothing was.
      rng: of the draws, which are the same whatever the images are.

    Returns:
      [n, s, s, 3], of the same dtype.
    """
    count, side = images.shape[:2]
    if "mirror" in kinds:
        swapped = rng.integers(2, size=count).astype(bool)
        images = np.where(swapped[:, None, None, None], images[:, :, ::-1], images)
    if "shift" in kinds:
        most = side // _PART
        padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="reflect")
        corners = rng.integers(0, 2 * most + 1, (count, 2)).tolist()
        moved = (
            image[top : top + side, left : left + side]
            for image, (top, left) in zip(padded, corners, strict=True)
        )
        images = np.stack(list(moved))
    return images
