"""Square windows of images: cut out, or their means and sums."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.filters import filter_separable

__all__ = ["extract_patches", "extract_windows", "window_counts", "window_means", "window_sums"]


def window_counts(height: int, width: int, size: int, stride: int) -> tuple[int, int]:
    """How many whole windows fit down and across; what is left at the far edges is not seen."""
    return (height - size) // stride + 1, (width - size) // stride + 1


def extract_windows(images: Array, size: int, stride: int) -> Array:
    """Cuts [n, h, w, c] into [n, k, size, size, c], windows in row-major order."""
    down, across = window_counts(images.shape[1], images.shape[2], size, stride)
    rows = np.arange(down)[:, None] * stride + np.arange(size)
    columns = np.arange(across)[:, None] * stride + np.arange(size)
    # [n, down, 1, size, 1, c] indices against [across, 1, size]: one gather.
    windows = images[:, rows[:, None, :, None], columns[None, :, None, :]]
    return windows.reshape(images.shape[0], down * across, size, size, images.shape[3])


def window_sums(images: Float[Array, "n h w c"], size: int, stride: int = 1) -> Array:
    """The sum over every size x size window, per channel: [n, (h-size)//stride+1, ..., c]."""
    return filter_separable(images, np.ones(size), stride)


def window_means(images: Float[Array, "n h w c"], size: int, stride: int = 1) -> Array:
    """The mean over every size x size window, per channel: [n, (h-size)//stride+1, ..., c].

    As products with band matrices: a gradient of an overlapping `reduce_window` takes ten times
    as long on CPU.
    """
    return filter_separable(images, np.full(size, 1 / size), stride)


def extract_patches(images: Float[Array, "n h w c"], size: int, stride: int = 1) -> Array:
    """Every size x size patch as a vector: [n, (h-size)//stride+1, ..., size*size*c].

    A patch's values are in the order row, column, channel, that of a kernel HWIO.
    """
    down, across = window_counts(images.shape[1], images.shape[2], size, stride)
    parts = [
        images[
            :,
            row : row + (down - 1) * stride + 1 : stride,
            column : column + (across - 1) * stride + 1 : stride,
        ]
        for row in range(size)
        for column in range(size)
    ]
    return jnp.concatenate(parts, axis=-1)
