"""Means of a kernel over all pairs of two sets of points, without the matrix of all pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.safe import safe_sqrt

__all__ = ["KERNELS", "Kernel", "kernel_mean"]

_BLOCK = 2**20
"""Pairs at a time: 4 MiB in float32, which a core's cache holds."""


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
        squared = jnp.maximum(u + v - 2 * products, 0)
        return sum(jnp.exp(-squared / (2 * bandwidth**2)) for bandwidth in bandwidths)  # type: ignore[return-value]

    return Kernel(kernel, radial=True)


def laplace(bandwidths: tuple[float, ...]) -> Kernel:
    """sum_B exp(-|u - v| / B)."""

    def kernel(products: Array, u: Array, v: Array) -> Array:
        distances = safe_sqrt(jnp.maximum(u + v - 2 * products, 0))
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


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def kernel_mean(
    x: Array, y: Array, kernel: Kernel, points: Callable[[Array], Array]
) -> Float[Array, " 2"]:
    """mean_ij k(u_i, v_j) of the points u of x and v of y, in memory linear in their numbers.

    The pairs are taken in blocks, forward and backward; between the two, x and y are all that is
    kept.

    Args:
      x: what the points are made of, an image.
      y: the same.
      kernel: k.
      points: makes points [a, d] of x, and [b, d] of y.

    Returns:
      The mean in two parts, to be added last: a coarse one, of few binary digits, and the rest.
      An MMD is a small difference of large means; the coarse parts cancel exactly.
    """
    u, v = _centred(points(x), points(y), kernel)
    rows, columns = _blocks(u, v)

    def row_means(points: Array) -> Array:
        def sums(block: _Block) -> Array:
            return _values(kernel, points, block.points) @ block.weights

        return _mapped(sums, columns).sum(axis=0) / v.shape[0]

    coarse = jax.lax.reduce_precision(row_means(u[:1])[0], 8, 8)
    rest = _mapped(lambda block: (row_means(block.points) - coarse) @ block.weights, rows).sum()
    return jnp.stack([coarse, rest / u.shape[0]])


def _forward(
    x: Array, y: Array, kernel: Kernel, points: Callable[[Array], Array]
) -> tuple[Array, tuple[Array, Array]]:
    return kernel_mean(x, y, kernel, points), (x, y)


def _backward(
    kernel: Kernel,
    points: Callable[[Array], Array],
    images: tuple[Array, Array],
    cotangent: Array,
) -> tuple[Array, Array]:
    (u, to_x), (v, to_y) = (jax.vjp(points, image) for image in images)
    rows, columns = _blocks(*_centred(u, v, kernel))

    def of_row(gradient_v: Array, row: _Block) -> tuple[Array, Array]:
        def of_block(gradient_u: Array, column: _Block) -> tuple[Array, Array]:
            def weighted_sum(a: Array, b: Array) -> Array:
                return row.weights @ _values(kernel, a, b) @ column.weights

            in_a, in_b = jax.grad(weighted_sum, argnums=(0, 1))(row.points, column.points)
            return gradient_u + in_a, in_b

        gradient_u, in_columns = jax.lax.scan(of_block, jnp.zeros_like(row.points), columns)
        return gradient_v + in_columns, gradient_u

    gradient_v, gradient_u = jax.lax.scan(of_row, jnp.zeros_like(columns.points), rows)
    # The coarse part does not change.
    scale = cotangent[1] / (u.shape[0] * v.shape[0])

    def of_points(gradient: Array, like: Array) -> Array:
        return scale * gradient.reshape(-1, like.shape[1])[: like.shape[0]]

    return (*to_x(of_points(gradient_u, u)), *to_y(of_points(gradient_v, v)))


kernel_mean.defvjp(_forward, _backward)


class _Block(NamedTuple):
    """Points [n, d] with weights [n], which are 0 for what fills the last block."""

    points: Array
    weights: Array


def _centred(u: Array, v: Array, kernel: Kernel) -> tuple[Array, Array]:
    """|u - v|^2 = |u|^2 + |v|^2 - 2 <u, v> loses the fewer digits, the nearer 0 they are."""
    if not kernel.radial:
        return u, v
    centre = (u.mean(axis=0) + v.mean(axis=0))[None] / 2
    return u - centre, v - centre


def _values(kernel: Kernel, a: Array, b: Array) -> Array:
    """The kernel of all rows of a with all rows of b."""
    products = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    squared_a = jnp.square(a).sum(axis=1, keepdims=True)
    return kernel.values(products, squared_a, jnp.square(b).sum(axis=1)[None])


def _mapped(function: Callable[[_Block], Array], blocks: _Block) -> Array:
    """The function of every block, one after the other, stacked."""
    if blocks.points.shape[0] == 1:
        return function(_Block(blocks.points[0], blocks.weights[0]))[None]
    return jax.lax.map(function, blocks)


def _blocks(u: Array, v: Array) -> tuple[_Block, _Block]:
    """Rows and columns whose pairs make up `_BLOCK` at most."""
    column = min(v.shape[0], max(1, _BLOCK // min(u.shape[0], 1024)))
    row = min(u.shape[0], max(1, _BLOCK // column))
    return _cut(u, row), _cut(v, column)


def _cut(points: Array, size: int) -> _Block:
    """Points [n, d] as blocks [k, size, d]."""
    count = -(-points.shape[0] // size)
    excess = count * size - points.shape[0]
    weights = jnp.pad(jnp.ones(points.shape[0], points.dtype), (0, excess))
    points = jnp.pad(points, ((0, excess), (0, 0)))
    return _Block(points.reshape(count, size, -1), weights.reshape(count, size))
