"""The JAX side of a row: a distance as a user would compile it."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

import perceptual_jax as pj
from benchmarks.timing import Work

__all__ = ["compiled", "distance", "images"]


def images(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Two batches [count, side, side, 3] in [0, 1]; every way of a row gets these."""
    rng = np.random.default_rng(0)
    x, y = rng.random((2, count, side, side, 3), dtype=np.float32)
    return x, y


def distance(spec: str, count: int, side: int, *, gradient: bool) -> Work:
    """Values of pairs, or the gradient of their sum in x (without asking for the values)."""
    made = pj.make(spec)
    params = made.init(jax.random.key(0))
    return compiled(made.__call__, (params, *images(count, side)), gradient=gradient)


def compiled(value: Callable[..., jax.Array], inputs: tuple, *, gradient: bool) -> Work:
    """`value(params, x, y)`, or the gradient of its sum in x, as one program."""
    inputs = jax.device_put(inputs)

    def total(params: pj.Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return value(params, x, y).sum()

    program = jax.jit(jax.grad(total, argnums=1) if gradient else value).lower(*inputs).compile()
    operations = (program.cost_analysis() or {}).get("flops")
    return Work(lambda: program(*inputs).block_until_ready(), operations)
