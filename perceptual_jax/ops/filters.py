"""Small fixed filters applied to every channel alike: blurs and 2x2 means."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.platform import in_one_type
from perceptual_jax.ops.value_range import at_least_float32

__all__ = [
    "filter_by_products",
    "filter_by_slices",
    "filter_separable",
    "filter_valid",
    "gaussian_kernel",
    "mean_2x2",
    "pad_reflect",
    "pad_replicate",
    "sum_channels",
]


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """The sampled Gaussian [size], normalised to sum 1."""
    offsets = np.arange(size) - (size - 1) / 2
    kernel = np.exp(-np.square(offsets) / (2 * sigma**2))
    return kernel / kernel.sum()


def filter_separable(images: Float[Array, "n h w c"], kernel: np.ndarray, stride: int = 1) -> Array:
    """Filters rows and columns with a kernel [k]; only whole windows: [n, (h-k)//stride+1, ..., c].

    Its gradient is a filter again, of the cotangent spread out among zeros.
    """
    weights = tuple(float(weight) for weight in kernel)
    if in_one_type(images):
        return _filter.bind(images, weights=weights, stride=stride)
    return filter_by_products(images, weights=weights, stride=stride)


def filter_by_slices(images: Array, *, weights: tuple[float, ...], stride: int) -> Array:
    """The form of shifted images added.

    On 8 x 128 x 128 x 3 with eleven weights 0.42 ms on two CPU cores, as products 1.7.
    """
    # Products of narrow floats are summed in float32 too.
    wide = at_least_float32(images)
    down = _added(wide, weights, stride, axis=1, whole=False)
    return _added(down, weights, stride, axis=2).astype(images.dtype)


_APART = 5
"""So many weights and more are worth writing the first pass out: fused, each of its numbers would
be computed again for every weight of the second."""


def _added(
    images: Array,
    weights: tuple[float, ...],
    stride: int,
    axis: int,
    *,
    whole: bool = True,
) -> Array:
    outputs = (images.shape[axis] - len(weights)) // stride + 1

    def part(start: int, stop: int) -> Array:
        shifted = (
            jax.lax.slice_in_dim(
                images,
                start * stride + place,
                (stop - 1) * stride + place + 1,
                stride,
                axis=axis,
            )
            * weight
            for place, weight in enumerate(weights)
        )
        return reduce(jnp.add, shifted)

    if whole or len(weights) < _APART or outputs < 2:
        return part(0, outputs)
    # The compiler fuses through sums, not through a concatenation.
    halves = [part(0, outputs // 2), part(outputs // 2, outputs)]
    return jnp.concatenate(halves, axis=axis)


_BLOCK = 128
"""Outputs per product: the band matrix of a longer line would be mostly zeros."""


def filter_by_products(images: Array, *, weights: tuple[float, ...], stride: int) -> Array:
    """The form of products with band matrices, for accelerators."""
    return _multiplied(_multiplied(images, weights, stride, axis=1), weights, stride, axis=2)


def _multiplied(images: Array, weights: tuple[float, ...], stride: int, axis: int) -> Array:
    outputs = (images.shape[axis] - len(weights)) // stride + 1
    blocks = []
    for start in range(0, outputs, _BLOCK):
        length = min(_BLOCK, outputs - start)
        seen = (length - 1) * stride + len(weights)
        band = np.zeros((length, seen))
        for offset, weight in enumerate(weights):
            band[np.arange(length), stride * np.arange(length) + offset] = weight
        first = start * stride
        blocks.append(
            jnp.einsum(
                "oi,nixc->noxc" if axis == 1 else "oi,nxic->nxoc",
                jnp.asarray(band, images.dtype),
                jax.lax.slice_in_dim(images, first, first + seen, axis=axis),
                precision=jax.lax.Precision.HIGHEST,
            )
        )
    return blocks[0] if len(blocks) == 1 else jnp.concatenate(blocks, axis=axis)


_filter = Primitive("filter_separable")
_filter.def_impl(partial(xla.apply_primitive, _filter))


@_filter.def_abstract_eval
def _shape(images: Any, *, weights: tuple[float, ...], stride: int) -> Any:
    n, *sides, channels = images.shape
    outputs = ((side - len(weights)) // stride + 1 for side in sides)
    return images.update(shape=(n, *outputs, channels))


def _transposed(
    cotangent: Array, images: Any, *, weights: tuple[float, ...], stride: int
) -> tuple[Array]:
    reach = len(weights) - 1
    for axis in (1, 2):
        outputs, side = cotangent.shape[axis], images.aval.shape[axis]
        seen = (outputs - 1) * stride + 1
        apart = [(0, 0, stride - 1 if each == axis else 0) for each in range(4)]
        spread = jax.lax.pad(cotangent, jnp.zeros((), cotangent.dtype), apart)
        # Fused with what made the cotangent, padding computes it one number after the other: a
        # gradient of patch-rbf takes 1.1 ms so for 8 x 128 x 128 x 3, and 0.5 with concatenations.
        cotangent = _with_zeros(spread, reach, side - seen, axis)
    return (_filter.bind(cotangent, weights=weights[::-1], stride=1),)


def _with_zeros(images: Array, before: int, after: int, axis: int) -> Array:
    sides = [
        jnp.zeros((*images.shape[:axis], size, *images.shape[axis + 1 :]), images.dtype)
        for size in (before, after)
    ]
    return jnp.concatenate([sides[0], images, sides[1]], axis=axis)


def _batched(
    operands: tuple[Array], axes: tuple[int], *, weights: tuple[float, ...], stride: int
) -> tuple[Array, int]:
    images = jnp.moveaxis(operands[0], axes[0], 0)
    filtered = _filter.bind(images.reshape(-1, *images.shape[2:]), weights=weights, stride=stride)
    return filtered.reshape(*images.shape[:2], *filtered.shape[1:]), 0


ad.deflinear2(_filter, _transposed)
batching.primitive_batchers[_filter] = _batched
mlir.register_lowering(_filter, mlir.lower_fun(filter_by_products, multiple_results=False))
mlir.register_lowering(
    _filter, mlir.lower_fun(filter_by_slices, multiple_results=False), platform="cpu"
)


def filter_valid(images: Float[Array, "n h w c"], kernel: np.ndarray) -> Array:
    """Filters with any kernel [k, l]; only whole windows: [n, h-k+1, w-l+1, c]."""
    rows, columns = kernel.shape
    height, width = images.shape[1] - rows + 1, images.shape[2] - columns + 1
    total = jnp.zeros((), images.dtype)
    for (row, column), weight in np.ndenumerate(kernel):
        total = total + images[:, row : row + height, column : column + width] * float(weight)
    return total


def pad_replicate(images: Float[Array, "n h w c"], rows: int, columns: int) -> Array:
    """Repeats the border pixels: [n, h + 2 rows, w + 2 columns, c]."""
    return jnp.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="edge")


def pad_reflect(images: Float[Array, "n h w c"], margin: int) -> Array:
    """Mirrors the image at its border pixels, which are not repeated: [n, h + 2 margin, ..., c]."""
    return jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")


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
