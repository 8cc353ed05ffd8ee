"""Forms of one convolution, equal to rounding: stride 1, square kernels, zeros around the images.

Each takes images [n, h, w, c], a kernel [k, k, c, o], how many zeros to pad with on every side
(less than k), and the precision of its products; it returns [n, h + 2 padding - k + 1, ..., o].
With `turned` the kernel is [k, k, o, c] and rotated by 180 degrees first: the convolution that
gives the gradient of another one's images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array

__all__ = ["Form", "direct", "patches", "strips", "winograd"]


Form = Callable[..., Array]
"""(images, kernel, *, padding, precision, turned) -> [n, h', w', o]."""


def direct(
    images: Array,
    kernel: Array,
    *,
    padding: int,
    precision: jax.lax.Precision,
    turned: bool,
    stride: int = 1,
) -> Array:
    """What the compiler knows as a convolution."""
    return jax.lax.conv_general_dilated(
        images,
        jax.lax.rev(kernel, (0, 1)) if turned else kernel,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWOI" if turned else "HWIO", "NHWC"),
        precision=precision,
    )


# --- One matrix product --------------------------------------------------------------------


def patches(
    images: Array, kernel: Array, *, padding: int, precision: jax.lax.Precision, turned: bool
) -> Array:
    """Patches by the kernel; turned, pixels by the kernel, and the products added in place."""
    form = _pixels_by_kernel if turned else _patches_by_kernel
    return form(images, kernel, padding, precision)


def _patches_by_kernel(
    images: Array, kernel: Array, padding: int, precision: jax.lax.Precision
) -> Array:
    size, _, channels, outputs = kernel.shape
    padded = _padded(images, padding)
    n, height, width, _ = padded.shape
    height, width = height - size + 1, width - size + 1
    found = jnp.concatenate(
        [
            padded[:, row : row + height, column : column + width]
            for row in range(size)
            for column in range(size)
        ],
        axis=-1,
    )
    product = jnp.matmul(
        found.reshape(n * height * width, size * size * channels),
        kernel.reshape(size * size * channels, outputs),
        precision=precision,
    )
    return product.reshape(n, height, width, outputs)


def _pixels_by_kernel(
    images: Array, kernel: Array, padding: int, precision: jax.lax.Precision
) -> Array:
    size, _, outputs, channels = kernel.shape
    n, height, width, _ = images.shape
    product = jnp.matmul(
        images.reshape(n * height * width, channels),
        kernel.reshape(size * size * outputs, channels).T,
        precision=precision,
    ).reshape(n, height, width, size * size, outputs)
    places = (
        jnp.pad(
            product[:, :, :, row * size + column],
            ((0, 0), (row, size - 1 - row), (column, size - 1 - column), (0, 0)),
        )
        for row in range(size)
        for column in range(size)
    )
    total = reduce(jnp.add, places)
    crop = size - 1 - padding
    return total[:, crop : total.shape[1] - crop, crop : total.shape[2] - crop]


# --- Wider rows ----------------------------------------------------------------------------


def strips(
    images: Array,
    kernel: Array,
    *,
    padding: int,
    precision: jax.lax.Precision,
    turned: bool,
    count: int = 4,
) -> Array:
    """`direct`, an image's parts from top to bottom side by side.

    XLA's convolution gives every core a part of a row, so narrow rows leave cores idle.

    Args:
      count: of parts.
    """
    size = kernel.shape[0]
    width = images.shape[2] + 2 * padding
    outputs = images.shape[1] + 2 * padding - size + 1
    rows = -(-outputs // count)
    padded = _padded(images, padding, below=rows * count - outputs)
    parts = [padded[:, part * rows : (part + 1) * rows + size - 1] for part in range(count)]
    found = jax.lax.conv_general_dilated(
        jnp.concatenate(parts, axis=2),
        jax.lax.rev(kernel, (0, 1)) if turned else kernel,
        window_strides=(1, 1),
        padding=((0, 0), (size - 1, 0)),
        dimension_numbers=("NHWC", "HWOI" if turned else "HWIO", "NHWC"),
        precision=precision,
    )
    # The first columns of a part also see the part before.
    parts = [found[:, :, part * width + size - 1 : (part + 1) * width] for part in range(count)]
    return jnp.concatenate(parts, axis=1)[:, :outputs]


# --- Fewer products ------------------------------------------------------------------------

_TILE = 4
"""Outputs of a tile, along an axis."""
_SEEN = _TILE + 2
"""Inputs that it sees; and points, the last at infinity."""
_POINTS = np.array([0, 3 / 4, -3 / 4, 3 / 2, -3 / 2])
"""Chosen for small errors: outputs of 256 or 512 channels differ from the exact ones by 2e-6 of the
largest; with the usual 0, 1, -1, 2, -2 by 7e-6, directly by 4e-7."""


def _at_points(coefficients: int) -> np.ndarray:
    """Evaluates polynomials with so many coefficients: [points, coefficients]."""
    infinity = np.eye(coefficients)[-1:]
    return np.concatenate([_POINTS[:, None] ** np.arange(coefficients), infinity])


def _input_transform() -> tuple[np.ndarray, np.ndarray]:
    """Per point the product of (x - p) over the others: coefficients [points, seen], and values."""
    others = [np.delete(_POINTS, place) for place in range(len(_POINTS))]
    products = [np.append(np.poly(roots)[::-1], 0) for roots in others]
    values = [np.prod(point - roots) for point, roots in zip(_POINTS, others, strict=True)]
    return np.array([*products, np.poly(_POINTS)[::-1]]), np.array([*values, 1])


_INPUTS, _VALUES = _input_transform()
_OUTPUTS = _at_points(_TILE).T
_KERNEL = _at_points(3) / _VALUES[:, None]


def winograd(
    images: Array, kernel: Array, *, padding: int, precision: jax.lax.Precision, turned: bool
) -> Array:
    """Minimal filtering, for 3x3 kernels: 36 multiplications for 16 outputs instead of 144.

    A tile of 4x4 outputs is a product of polynomials. The 6x6 inputs it sees and the kernel are
    evaluated at six points along either axis, the 36 pairs multiplied (summed over channels: 36
    matrix products), and the outputs interpolated.

    References:
      A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016,
      https://arxiv.org/abs/1509.09308
    """
    n, height, width, channels = images.shape
    height, width = height + 2 * padding - 2, width + 2 * padding - 2
    down, across = -(-height // _TILE), -(-width // _TILE)
    padded = _padded(images, padding, below=down * _TILE - height, beyond=across * _TILE - width)
    # Slices a stride apart, added: on CPU a fused loop along the channels, where a product with
    # these small matrices would have to rearrange the tiles first.
    columns = [padded[:, :, place : place + across * _TILE - 3 : _TILE] for place in range(_SEEN)]
    seen = jnp.stack(_combined(_INPUTS, columns))
    rows = [seen[:, :, place : place + down * _TILE - 3 : _TILE] for place in range(_SEEN)]
    tiles = jnp.stack(_combined(_INPUTS, rows))
    tiles = tiles.reshape(_SEEN, _SEEN, n * down * across, channels)

    # Six points at a time: 36 transforms of a large kernel would not stay in the cache.
    along = _KERNEL[:, ::-1] if turned else _KERNEL
    of_kernel = jnp.asarray(np.einsum("pi,qj->pqij", along, along), kernel.dtype)
    flat = kernel.reshape(9, -1)

    def multiply(at: tuple[Array, Array]) -> Array:
        tiles, weights = at
        transformed = jnp.matmul(weights.reshape(_SEEN, 9), flat, precision=precision)
        return jnp.einsum(
            "qtc,qoc->qto" if turned else "qtc,qco->qto",
            tiles,
            transformed.reshape(_SEEN, *kernel.shape[2:]),
            precision=precision,
        )

    products = jax.lax.map(multiply, (tiles, of_kernel))
    products = products.reshape(_SEEN, _SEEN, n, down, across, -1)
    parts = jnp.stack(_combined(_OUTPUTS, list(products)), axis=3)
    whole = jnp.stack(_combined(_OUTPUTS, list(parts)), axis=4)
    return whole.reshape(n, down * _TILE, across * _TILE, -1)[:, :height, :width]


def _combined(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
    """The rows of a matrix as sums of parts."""
    return [
        reduce(
            jnp.add,
            (part * float(weight) for weight, part in zip(row, parts, strict=True) if weight),
        )
        for row in matrix
    ]


def _padded(images: Array, padding: int, *, below: int = 0, beyond: int = 0) -> Array:
    """Zeros on every side, and more of them below and to the right."""
    down, across = (padding, padding + below), (padding, padding + beyond)
    return jnp.pad(images, ((0, 0), down, across, (0, 0)))
