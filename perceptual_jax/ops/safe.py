"""Functions with a kink or a pole at zero, in forms whose gradients stay finite there.

Values are those of the plain functions, NaN included; only the gradient at zero is chosen: it is 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array

__all__ = ["positive_part", "safe_abs", "safe_norm", "safe_power", "safe_sqrt"]


@jax.custom_jvp
def safe_abs(x: Array) -> Array:
    """|x|, with gradient 0 at 0 (`jnp.abs` has 1 there, and pushes pixels that already agree)."""
    return jnp.abs(x)


@safe_abs.defjvp
def _safe_abs_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return safe_abs(x), jnp.sign(x) * tangent


def safe_power(x: Array, power: float) -> Array:
    """|x|^power for a positive power, with gradient 0 at 0 (infinite there for powers below 1)."""
    if power == 1:
        return safe_abs(x)
    zero = x == 0
    return jnp.where(zero, 0.0, safe_abs(jnp.where(zero, 1.0, x)) ** power)


def positive_part(x: Array) -> Array:
    """max(x, 0), ReLU, of which NaN stays NaN: the CPU compiler's `maximum` may make 0 of it."""
    return jnp.where(x <= 0, 0.0, x)


def safe_sqrt(x: Array) -> Array:
    """sqrt(x) for x >= 0, with gradient 0 at 0 (the plain one is infinite there).

    Both branches of the `where` must be safe: a masked infinity times zero is NaN.
    """
    zero = x <= 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def safe_norm(x: Array, axis: int = -1) -> Array:
    """The Euclidean norm along `axis`, which is kept with length 1; gradient 0 at the origin."""
    return safe_sqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=True))
