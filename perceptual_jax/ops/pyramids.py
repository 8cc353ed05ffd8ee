"""Gaussian and Laplacian image pyramids."""

from __future__ import annotations

import numpy as np

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.filters import filter_separable, filter_valid, mean_2x2, pad_replicate

__all__ = ["gaussian_pyramid", "laplacian_pyramid"]


def gaussian_pyramid(images: Float[Array, "n h w c"], levels: int) -> list[Array]:
    """The images and their successive 2x2 means: `levels` arrays, finest first."""
    pyramid = [images]
    for _ in range(levels - 1):
        pyramid.append(mean_2x2(pyramid[-1]))
    return pyramid


def laplacian_pyramid(
    images: Float[Array, "n h w c"], levels: int, kernel: np.ndarray
) -> list[Array]:
    """`levels` band-pass images, finest first, then the low-pass rest: levels + 1 arrays.

    Each band is the image less its blur (replicated border); the next image is the 2x2 mean
    of the blurred one. A kernel [k] blurs rows and columns, a kernel [k, l] as it is.
    """
    blur = filter_separable if kernel.ndim == 1 else filter_valid
    pyramid = []
    for _ in range(levels):
        padded = pad_replicate(images, kernel.shape[0] // 2, kernel.shape[-1] // 2)
        blurred = blur(padded, kernel)
        pyramid.append(images - blurred)
        images = mean_2x2(blurred)
    return [*pyramid, images]
