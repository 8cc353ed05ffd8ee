"""Means of a kernel over all pairs of patches of two images, without the matrix of all pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.safe import positive_part, safe_sqrt
from perceptual_jax.ops.windows import extract_patches, window_counts

__all__ = ["KERNELS", "Kernel", "kernel_mean"]

_BLOCK = 1024
"""Patches at a time, about: 4 MiB of their pairs in float32, which a core's cache holds."""


class Kernel(NamedTuple):
    """A kernel of vectors u and v.

    Attributes:
      values: `(products [a, b], squared norms [a, 1], squared norms [1, b]) -> [a, b]`.
      radial: whether it depends on u - v alone.
    """

    values: Callable[[Array, Array, Array], Array]
    radial: bool


def rbf(bandwidths: tuple[float, ...]) -> Kernel:
    """sum_B exp(-|u - v|^2 / (2 B^2))."""

    def kernel(products: Array, u: Array, v: Array) -> Array:
        squared = positive_part(u + v - 2 * products)
        return sum(jnp.exp(-squared / (2 * bandwidth**2)) for bandwidth in bandwidths)  # type: ignore[return-value]

    return Kernel(kernel, radial=True)


def laplace(bandwidths: tuple[float, ...]) -> Kernel:
    """sum_B exp(-|u - v| / B)."""

    def kernel(products: Array, u: Array, v: Array) -> Array:
        distances = safe_sqrt(u + v - 2 * products)
        return sum(jnp.exp(-distances / bandwidth) for bandwidth in bandwidths)  # type: ignore[return-value]

    return Kernel(kernel, radial=True)


def linear(bandwidths: tuple[float, ...]) -> Kernel:
    """<u, v>."""
    del bandwidths
    return Kernel(lambda products, u, v: products, radial=False)


def arc_cosine(bandwidths: tuple[float, ...]) -> Kernel:
    """|u| |v| (sin t + (pi - t) cos t) / (2 pi), t the angle: a random ReLU layer of any width.

    References:
      Y. Cho, L. Saul, "Kernel Methods for Deep Learning", NIPS 2009 (degree 1, halved: the mean
      over w ~ N(0, I) of ReLU(w.u) ReLU(w.v)).
    """
    del bandwidths

    def kernel(products: Array, u: Array, v: Array) -> Array:
        norms = safe_sqrt(u) * safe_sqrt(v)
        cosines = products / jnp.where(norms > 0, norms, 1)
        return norms * _angular(jnp.clip(cosines, -1, 1)) / (2 * math.pi)

    return Kernel(kernel, radial=False)


@jax.custom_jvp
def _angular(cosine: Array) -> Array:
    """From cos t, sin t + (pi - t) cos t: smooth where arccos itself is not."""
    return jnp.sqrt(1 - jnp.square(cosine)) + (math.pi - jnp.arccos(cosine)) * cosine


@_angular.defjvp
def _angular_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (cosine,), (tangent,) = primals, tangents
    return _angular(cosine), (math.pi - jnp.arccos(cosine)) * tangent


KERNELS: Mapping[str, Callable[[tuple[float, ...]], Kernel]] = {
    "rbf": rbf,
    "laplace": laplace,
    "linear": linear,
    "arccos": arc_cosine,
}
"""Kernels by name, made from bandwidths where they have any."""


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def kernel_mean(
    x: Float[Array, "h w c"], y: Float[Array, "h2 w2 c"], kernel: Kernel, size: int, stride: int
) -> Float[Array, " 2"]:
    """mean_ij k(u_i, v_j) of the patches u of x and v of y, in memory linear in the pixels.

    Blocks of patches are cut out when their turn comes, forward and backward: neither the matrix
    of all pairs nor the patches themselves are ever held as a whole.

    Args:
      x: an image.
      y: another, of any size.
      kernel: k.
      size: of the patches, size x size pixels; only whole ones.
      stride: between patches, in pixels.

    Returns:
      The mean in two parts, to be added last: a coarse one, of few binary digits, and the rest.
      An MMD is a small difference of large means; the coarse parts cancel exactly.
    """
    x, y = _centred(x, y, kernel)
    rows, columns = _strips(x, size, stride), _strips(y, size, stride)

    def row_means(u: Array) -> Array:
        def sums(column: _Strip) -> Array:
            return _values(kernel, u, _patches(column.pixels, size, stride)) @ column.weights

        return _mapped(sums, columns).sum(axis=0) / columns.weights.sum()

    first = _patches(x[:size, :size], size, stride)
    coarse = jax.lax.reduce_precision(row_means(first)[0], 8, 8)

    def rest(row: _Strip) -> Array:
        return (row_means(_patches(row.pixels, size, stride)) - coarse) @ row.weights

    return jnp.stack([coarse, _mapped(rest, rows).sum() / rows.weights.sum()])


def _forward(
    x: Array, y: Array, kernel: Kernel, size: int, stride: int
) -> tuple[Array, tuple[Array, Array]]:
    return kernel_mean(x, y, kernel, size, stride), (x, y)


def _backward(
    kernel: Kernel, size: int, stride: int, images: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array]:
    patches = partial(_patches, size=size, stride=stride)
    (rows, to_x), (columns, to_y) = (
        jax.vjp(lambda image: _strips(image, size, stride), image)
        for image in _centred(*images, kernel)
    )

    def of_row(in_columns: Array, row: _Strip) -> tuple[Array, Array]:
        u, to_row = jax.vjp(patches, row.pixels)

        def of_block(in_u: Array, column: _Strip) -> tuple[Array, Array]:
            v, to_column = jax.vjp(patches, column.pixels)

            def weighted_sum(u: Array, v: Array) -> Array:
                return row.weights @ _values(kernel, u, v) @ column.weights

            to_u, to_v = jax.grad(weighted_sum, argnums=(0, 1))(u, v)
            return in_u + to_u, *to_column(to_v)

        in_u, here = jax.lax.scan(of_block, jnp.zeros_like(u), columns)
        return in_columns + here, *to_row(in_u)

    in_columns, in_rows = jax.lax.scan(of_row, jnp.zeros_like(columns.pixels), rows)
    # The coarse part does not change.
    scale = cotangent[1] / rows.weights.sum() / columns.weights.sum()
    (in_x,) = to_x(_Strip(scale * in_rows, jnp.zeros_like(rows.weights)))
    (in_y,) = to_y(_Strip(scale * in_columns, jnp.zeros_like(columns.weights)))
    return in_x, in_y


kernel_mean.defvjp(_forward, _backward)


class _Strip(NamedTuple):
    """Rows of an image with a few whole rows of patches.

    Attributes:
      pixels: [h, w, c].
      weights: [patches], 1, or 0 for those that fill the last strip.
    """

    pixels: Array
    weights: Array


def _strips(image: Array, size: int, stride: int) -> _Strip:
    """The image as strips of about `_BLOCK` patches, stacked; their pixels overlap."""
    down, across = window_counts(image.shape[0], image.shape[1], size, stride)
    rows = min(down, max(1, _BLOCK // across))
    count = -(-down // rows)
    starts = stride * rows * np.arange(count)
    height = stride * (rows - 1) + size
    missing = max(0, starts[-1] + height - image.shape[0])
    image = jnp.pad(image, ((0, missing), (0, 0), (0, 0)))
    pixels = image[starts[:, None] + np.arange(height)]
    filled = np.arange(count * rows).reshape(count, rows) < down
    return _Strip(pixels, jnp.asarray(filled.repeat(across, axis=1), image.dtype))


def _patches(pixels: Array, size: int, stride: int) -> Array:
    """The patches of a strip as rows [patches, size size c]."""
    found = extract_patches(pixels[None], size, stride)
    return found.reshape(-1, found.shape[-1])


def _centred(x: Array, y: Array, kernel: Kernel) -> tuple[Array, Array]:
    """|u - v|^2 = |u|^2 + |v|^2 - 2 <u, v> loses the fewer digits, the nearer 0 they are."""
    if not kernel.radial:
        return x, y
    centre = (x.mean(axis=(0, 1)) + y.mean(axis=(0, 1)))[None, None] / 2
    return x - centre, y - centre


def _values(kernel: Kernel, u: Array, v: Array) -> Array:
    """The kernel of all rows of u with all rows of v."""
    products = jnp.matmul(u, v.T, precision=jax.lax.Precision.HIGHEST)
    squared_u = jnp.square(u).sum(axis=1, keepdims=True)
    return kernel.values(products, squared_u, jnp.square(v).sum(axis=1)[None])


def _mapped(function: Callable[[_Strip], Array], strips: _Strip) -> Array:
    """The function of every strip, one after the other, stacked."""
    if strips.pixels.shape[0] == 1:
        return function(jax.tree.map(lambda leaf: leaf[0], strips))[None]
    return jax.lax.map(function, strips)
