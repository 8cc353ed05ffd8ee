"""Square windows of images: cut out, or their means and sums."""

from __future__ import annotations

import math
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.filters import filter_separable
from perceptual_jax.ops.value_range import at_least_float32

__all__ = [
    "extract_patches",
    "extract_windows",
    "mean_patch",
    "project_patches",
    "window_counts",
    "window_means",
    "window_sums",
]


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
    """The sum over every size x size window, per channel: [n, (h-size)//stride+1, ..., c].

    In float32 or wider, for a sum may be of a thousand numbers.

    Windows that overlap by whole blocks are sums of blocks: 32/16 windows of 256 x 256 x 64 take
    0.8 ms on two CPU cores so, 7.8 ms as products with band matrices; a gradient of an
    overlapping `reduce_window` takes ten times as long again.
    """
    images, side = at_least_float32(images), math.gcd(size, stride)
    sums = _block_sums(images, side) if side > 1 else images
    if side == size == stride:
        return sums
    return filter_separable(sums, np.ones(size // side), stride // side)


def window_means(images: Float[Array, "n h w c"], size: int, stride: int = 1) -> Array:
    """The mean over every size x size window, as `window_sums` has them."""
    return window_sums(images, size, stride) / size**2


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _block_sums(images: Array, side: int) -> Array:
    """The sum over every side x side block: [n, h//side, w//side, c].

    Added one slice after the other, a fused loop that computes what it adds: 75 ms for the means
    of 1,024 random features at 256 px, where a reduction takes 122. Its derivative is one of a
    reduction, whose transpose is a broadcast.
    """
    blocks = _blocks(images, side)
    rows = reduce(jnp.add, (blocks[:, :, row] for row in range(side)))
    return reduce(jnp.add, (rows[:, :, :, column] for column in range(side)))


@_block_sums.defjvp
def _block_sums_jvp(
    side: int, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    return _block_sums(*primals, side), _blocks(*tangents, side).sum(axis=(2, 4))


def _blocks(images: Array, side: int) -> Array:
    """Whole blocks: [n, h//side, side, w//side, side, c]."""
    n, height, width, channels = images.shape
    down, across = height // side, width // side
    whole = images[:, : down * side, : across * side]
    # One axis at a time, as explicit sharding asks for.
    rows = whole.reshape(n, down, side, across * side, channels)
    return rows.reshape(n, down, side, across, side, channels)


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


def project_patches(
    images: Float[Array, "n h w c"],
    directions: Float[Array, "p p c k"],
    stride: int,
    precision: jax.lax.Precision,
) -> Float[Array, "n k m"]:
    """Every whole patch seen along every direction; patches of an image together in memory.

    One product with the patches as columns, each row of which is a run of pixels: a gradient of
    `swd` at 128 px takes 125 ms on two CPU cores so, and 205 where a convolution gives the patches
    beside each other and a copy turns them.
    """
    size, _, channels, count = directions.shape
    down, across = window_counts(images.shape[1], images.shape[2], size, stride)
    planes = jnp.moveaxis(images, 3, 1)
    columns = jnp.concatenate(
        [
            planes[
                :,
                :,
                row : row + (down - 1) * stride + 1 : stride,
                column : column + (across - 1) * stride + 1 : stride,
            ]
            for row in range(size)
            for column in range(size)
        ],
        axis=1,
    )
    n, depth = images.shape[0], size * size * channels
    # A copy of the directions for every image: one product of all would have to be turned.
    flat = directions.astype(images.dtype).reshape(depth, count)
    return jnp.einsum(
        "ndk,ndm->nkm",
        jnp.broadcast_to(flat, (n, depth, count)),
        columns.reshape(n, depth, down * across),
        precision=precision,
    )


def mean_patch(images: Float[Array, "n h w c"], size: int, stride: int = 1) -> Array:
    """The mean of an image's patches, as vectors in the order of `extract_patches`: [n, s*s*c]."""
    n, height, width, channels = images.shape
    down, across = window_counts(height, width, size, stride)
    mean = jnp.einsum(
        "ph,qw,nhwc->npqc",
        jnp.asarray(_mean_places(height, down, size, stride), images.dtype),
        jnp.asarray(_mean_places(width, across, size, stride), images.dtype),
        images,
        precision=jax.lax.Precision.HIGHEST,
    )
    return mean.reshape(n, size * size * channels)


def _mean_places(length: int, count: int, size: int, stride: int) -> np.ndarray:
    """Row r means what stands r places after the starts of all `count` windows of a line."""
    places = np.zeros((size, length))
    for offset in range(size):
        places[offset, offset + stride * np.arange(count)] = 1 / count
    return places
