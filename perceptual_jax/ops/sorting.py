"""Sorted values, and how far apart two samples of them are."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array
from perceptual_jax.ops.safe import safe_abs

__all__ = ["sliced_difference"]


def sliced_difference(ex: Array, ey: Array, power: float) -> Array:
    """The mean |ex - ey|^power of sorted values [n, k, m] and [n, k, m'], by quantiles, [n]."""
    count = max(ex.shape[-1], ey.shape[-1])
    difference = safe_abs(_quantiles(ex, count) - _quantiles(ey, count))
    return (difference if power == 1 else difference**power).mean(axis=(1, 2))


def _quantiles(values: Array, count: int) -> Array:
    """Values sorted along the last axis, interpolated to `count` evenly spaced quantiles."""
    have = values.shape[-1]
    if have == count:
        return values
    places = np.clip((np.arange(count) + 0.5) * (have / count) - 0.5, 0, have - 1)
    below = np.minimum(places.astype(int), max(have - 2, 0))
    above = np.minimum(below + 1, have - 1)
    weight = jnp.asarray(places - below, values.dtype)[None, None]
    return values[..., below] * (1 - weight) + values[..., above] * weight
