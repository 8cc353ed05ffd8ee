"""Our side of a row: a distance as a user would compile it."""

from __future__ import annotations

import jax
import numpy as np

import perceptual_jax as pj
from benchmarks.timing import Work

__all__ = ["distance", "images"]


def images(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Two batches [count, side, side, 3] in [0, 1]; every way of a row gets these."""
    rng = np.random.default_rng(0)
    x, y = rng.random((2, count, side, side, 3), dtype=np.float32)
    return x, y


def distance(spec: str, count: int, side: int, *, gradient: bool) -> Work:
    """Values of pairs, or the gradient of their sum in x (without asking for the values)."""
    made = pj.make(spec)
    params = made.init(jax.random.key(0))
    inputs = jax.device_put((params, *images(count, side)))

    def total(params: pj.Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return made(params, x, y).sum()

    function = jax.grad(total, argnums=1) if gradient else made.__call__
    compiled = jax.jit(function).lower(*inputs).compile()
    operations = (compiled.cost_analysis() or {}).get("flops")
    return Work(lambda: compiled(*inputs).block_until_ready(), operations)
