"""Small fixed filters applied to every channel alike: blurs and 2x2 means.

Each is a sum of shifted images, which XLA fuses into one pass; a depthwise convolution
computes the same and is slower on CPU.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Float

__all__ = [
    "filter_separable",
    "filter_valid",
    "gaussian_kernel",
    "mean_2x2",
    "pad_replicate",
    "sum_channels",
]


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """The sampled Gaussian [size], normalised to sum 1."""
    offsets = np.arange(size) - (size - 1) / 2
    kernel = np.exp(-np.square(offsets) / (2 * sigma**2))
    return kernel / kernel.sum()


def _filter_axis(images: Array, kernel: np.ndarray, axis: int) -> Array:
    length = images.shape[axis] - len(kernel) + 1
    index = [slice(None)] * images.ndim
    total = jnp.zeros((), images.dtype)
    for offset, weight in enumerate(kernel):
        index[axis] = slice(offset, offset + length)
        total = total + images[tuple(index)] * float(weight)
    return total


def filter_separable(images: Float[Array, "n h w c"], kernel: np.ndarray) -> Array:
    """Filters rows and columns with a kernel [k]; only whole windows: [n, h-k+1, w-k+1, c]."""
    return _filter_axis(_filter_axis(images, kernel, 1), kernel, 2)


def filter_valid(images: Float[Array, "n h w c"], kernel: np.ndarray) -> Array:
    """Filters with a kernel [k, l]; only whole windows: [n, h-k+1, w-l+1, c]."""
    rows, columns = kernel.shape
    height, width = images.shape[1] - rows + 1, images.shape[2] - columns + 1
    total = jnp.zeros((), images.dtype)
    for (row, column), weight in np.ndenumerate(kernel):
        total = total + images[:, row : row + height, column : column + width] * float(weight)
    return total


def pad_replicate(images: Float[Array, "n h w c"], rows: int, columns: int) -> Array:
    """Repeats the border pixels: [n, h + 2 rows, w + 2 columns, c]."""
    return jnp.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="edge")


def mean_2x2(images: Float[Array, "n h w c"]) -> Array:
    """Halves the size by means of 2x2 blocks; an odd last row or column is dropped.

    The order of the sum is spelled out: where two images agree, an order of XLA's choice leaves
    differences of 1e-17 whose signs would push an l1 loss.
    """
    even = images[:, : images.shape[1] // 2 * 2, : images.shape[2] // 2 * 2]
    top, bottom = even[:, ::2], even[:, 1::2]
    return (top[:, :, ::2] + top[:, :, 1::2] + bottom[:, :, ::2] + bottom[:, :, 1::2]) / 4


def sum_channels(images: Float[Array, "n h w c"]) -> Float[Array, "n h w 1"]:
    """The channels added in their order; nothing but additions, so equal pixels stay equal."""
    total = images[..., :1]
    for channel in range(1, images.shape[3]):
        total = total + images[..., channel : channel + 1]
    return total
