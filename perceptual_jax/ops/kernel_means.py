"""Means of a kernel over all pairs of two sets of points, without the matrix of all pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


def kernel_mean(
    u: Float[Array, "a d"], v: Float[Array, "b d"], kernel: Kernel
) -> Float[Array, " 2"]:
    """mean_ij k(u_i, v_j), in memory linear in a and b, forward and backward.

    The pairs are taken in blocks, which the gradient computes again.

    Returns:
      The mean in two parts, to be added last: a coarse one, of few binary digits, and the rest.
      An MMD is a small difference of large means; the coarse parts cancel exactly.
    """
    if kernel.radial:
        # |u - v|^2 = |u|^2 + |v|^2 - 2 <u, v> loses the fewer digits, the nearer 0 they are.
        centre = jax.lax.stop_gradient((u.mean(axis=0) + v.mean(axis=0)) / 2)[None]
        u, v = u - centre, v - centre
    block_v = min(v.shape[0], max(1, _BLOCK // min(u.shape[0], 1024)))
    block_u = min(u.shape[0], max(1, _BLOCK // block_v))
    (blocks_u, weights_u), columns = _blocks(u, block_u), _blocks(v, block_v)

    @jax.checkpoint
    def row_sums(rows: Array, block: tuple[Array, Array]) -> Array:
        points, weights = block
        products = jnp.matmul(rows, points.T, precision=jax.lax.Precision.HIGHEST)
        squared_rows = jnp.square(rows).sum(axis=1, keepdims=True)
        squared_points = jnp.square(points).sum(axis=1)[None]
        values = kernel.values(products, squared_rows, squared_points)
        return jnp.matmul(values, weights, precision=jax.lax.Precision.HIGHEST)

    def row_means(rows: Array) -> Array:
        sums = _mapped(lambda block: row_sums(rows, block), columns).sum(axis=0)
        return sums / v.shape[0]

    coarse = jax.lax.stop_gradient(jax.lax.reduce_precision(row_means(u[:1])[0], 8, 8))
    rest = _mapped(lambda rows: row_means(rows) - coarse, blocks_u)
    return jnp.stack([coarse, (rest * weights_u).sum() / u.shape[0]])


def _mapped(function: Callable[..., Array], blocks: Any) -> Array:
    """The function of every block, one after the other, stacked."""
    if jax.tree.leaves(blocks)[0].shape[0] == 1:
        return function(jax.tree.map(lambda leaf: leaf[0], blocks))[None]
    return jax.lax.map(function, blocks)


def _blocks(points: Array, size: int) -> tuple[Array, Array]:
    """Points [n, d] as blocks [k, size, d], with weights that are 0 for what fills the last."""
    count = -(-points.shape[0] // size)
    excess = count * size - points.shape[0]
    weights = jnp.pad(jnp.ones(points.shape[0], points.dtype), (0, excess))
    points = jnp.pad(points, ((0, excess), (0, 0)))
    return points.reshape(count, size, -1), weights.reshape(count, size)
