"""One item compared with many: copies along the batch, with a gradient that is fast to sum."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array
from perceptual_jax.ops.platform import on_cpu

__all__ = ["copies"]

_WIDTH = 16


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def copies(x: Array, n: int) -> Array:
    """Repeats x [1, ...] to [n, ...].

    The gradient of a broadcast is a sum over the batch, which XLA's CPU backend walks column
    by column: 42 ms for 6 x 128 x 128 x 64. The gradient of a concatenation is slices added,
    which fuse with what made them: 0.8 ms. So tangents are concatenated, and values, which a
    concatenation would slow down, are not. Accelerators keep the broadcast for both.
    """
    return jnp.broadcast_to(x, (n, *x.shape[1:]))


@copies.defjvp
def _copies_jvp(n: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    if on_cpu():
        return copies(x, n), _concatenated(tangent, n)
    return copies(x, n), jnp.broadcast_to(tangent, (n, *tangent.shape[1:]))


def _concatenated(x: Array, n: int) -> Array:
    if n <= _WIDTH:
        return jnp.concatenate([x] * n)
    # Blocks of blocks, so that many copies stay a small program.
    block = _concatenated(x, _WIDTH)
    rest = [block[: n % _WIDTH]] if n % _WIDTH else []
    return jnp.concatenate([block] * (n // _WIDTH) + rest)
