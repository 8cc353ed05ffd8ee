"""Ways to damage an image, each with a strength in [0, 1], and damage of equal size.

Images are floats [h, w, 3] in [0, 1]; what comes back may leave that range.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

import perceptual_jax as pj

__all__ = ["DISTORTIONS", "blur", "equally_far", "jpeg", "moved", "noise"]


def jpeg(image: np.ndarray, strength: float) -> np.ndarray:
    """Compressed at quality 95 (1 - strength)."""
    buffer = io.BytesIO()
    quality = int(np.clip(round(95 * (1 - strength)), 1, 95))
    Image.fromarray(pj.images.to_uint8(image)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.float32) / 255


def noise(image: np.ndarray, strength: float) -> np.ndarray:
    """With normal noise of that standard deviation, always the same."""
    return image + strength * np.random.default_rng(0).normal(size=image.shape)


def blur(image: np.ndarray, strength: float) -> np.ndarray:
    """Through a Gaussian of standard deviation 20 strength pixels."""
    return ndimage.gaussian_filter(image, (20 * strength, 20 * strength, 0), mode="nearest")


def moved(image: np.ndarray, strength: float) -> np.ndarray:
    """To the right by 40 strength pixels."""
    return ndimage.shift(image, (0, 40 * strength, 0), order=1, mode="nearest")


DISTORTIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brighter": lambda image, strength: image + strength,
    "less contrast": lambda image, strength: image.mean() + (1 - strength) * (image - image.mean()),
    "moved": moved,
    "noise": noise,
    "blur": blur,
    "jpeg": jpeg,
}
"""`{name: (image [h, w, 3] in [0, 1], strength in [0, 1]) -> image}`, stronger is further away."""


def equally_far(
    image: np.ndarray, distort: Callable[[np.ndarray, float], np.ndarray], distance: float
) -> np.ndarray:
    """The distortion at the strength whose root mean square difference is `distance`.

    Found by bisection; values are clipped to [0, 1] as a file would. Where strengths come in
    steps, as jpeg's do, what is missing is made up for by a factor on the difference.
    """

    def far(candidate: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(candidate - image))))

    def clipped(candidate: np.ndarray) -> np.ndarray:
        return np.clip(candidate, 0, 1).astype(np.float32)

    low, high = 0.0, 1.0
    best, least = image, np.inf
    for _ in range(25):
        middle = (low + high) / 2
        candidate = clipped(distort(image, middle))
        off = far(candidate) - distance
        if abs(off) < least:
            best, least = candidate, abs(off)
        low, high = (low, middle) if off > 0 else (middle, high)
    for _ in range(3):  # Clipping takes a little of what the factor gives.
        best = clipped(image + (distance / far(best)) * (best - image))
    return best
