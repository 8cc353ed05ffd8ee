"""Where the program being traced will run, for operations that have a fast form per platform."""

from __future__ import annotations

import jax
from jax.sharding import AxisType

from perceptual_jax._typing import Array

__all__ = ["in_one_type", "on_cpu"]


def on_cpu() -> bool:
    """Whether JAX's default backend is the CPU.

    Asked at trace time. `jax.lax.platform_dependent` would decide when lowering, but its
    gradient keeps what either form needs: a VGG-16 step takes 144 ms so and 107 ms this way.
    All forms give the same numbers, so a wrong guess costs time alone.
    """
    return jax.default_backend() == "cpu"


def in_one_type(*arrays: Array) -> bool:
    """Whether no axis of a device mesh is part of the arrays' types.

    Where one is, explicitly or under `shard_map`, JAX's own operations know the types' rules and
    our primitives do not.
    """
    return all(
        axis == AxisType.Auto
        for each in arrays
        for axis in jax.typeof(each).sharding.mesh.axis_types
    )
