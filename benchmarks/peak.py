"""How fast this machine multiplies matrices: what a fraction of the peak is a fraction of."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

__all__ = ["product_gigaflops"]


def product_gigaflops(side: int = 2048, repeats: int = 9) -> float:
    """GFLOP/s of the fastest of some float32 products of square matrices."""
    a = jnp.ones((side, side))
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    product(a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - begun)
    return 2 * side**3 / best / 1e9
