"""Style transfer that keeps the content's colours: light and dark alone are transferred."""

from __future__ import annotations

import numpy as np

__all__ = ["grey", "with_colours_of", "with_luma_like"]

_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32
)
"""RGB to YIQ: what is light, and two axes of colour."""


def grey(image: np.ndarray) -> np.ndarray:
    """The luma of an image [h, w, 3] in [0, 1], in all three channels."""
    return np.repeat((image @ _FROM_RGB[0])[..., None], 3, axis=-1)


def with_luma_like(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """The style in grey, as light and as contrasted as the content is.

    Else a dark style would darken colours that are kept.
    """
    ours, theirs = grey(style), grey(content)
    moved = (ours - ours.mean()) * (theirs.std() / max(ours.std(), 1e-6)) + theirs.mean()
    return np.clip(moved, 0, 1)


def with_colours_of(content: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The luma of an image with the colours of a content of its size; both [h, w, 3] in [0, 1]."""
    of_content, of_image = content @ _FROM_RGB.T, image @ _FROM_RGB.T
    joined = np.concatenate([of_image[..., :1], of_content[..., 1:]], axis=-1)
    return np.clip(joined @ np.linalg.inv(_FROM_RGB).T, 0, 1).astype(np.float32)
