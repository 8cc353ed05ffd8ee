"""Distances of pixels, on images in [-1, 1]."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_maps
from perceptual_jax.errors import InputError
from perceptual_jax.ops.filters import sum_channels
from perceptual_jax.ops.safe import safe_abs
from perceptual_jax.ops.value_range import SIGNED, mapper

__all__ = ["charbonnier", "gradient", "l1", "l2"]


def l1(*, name: str = "l1", value_range: ValueRange = (0.0, 1.0), dtype: Any = None) -> Distance:
    """Mean absolute difference: mean |x - y|.

    The gradient is 0 where pixels agree.

    Args:
      name: the canonical spec.
      value_range: (low, high) of float images.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 2]; its map is the mean over channels.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> black, grey = jnp.zeros((1, 4, 4, 3)), jnp.full((1, 4, 4, 3), 0.5)
      >>> pj.make("l1")({}, black, grey).tolist()  # on [-1, 1]
      [1.0]
    """
    return _pointwise(name, value_range, dtype, safe_abs)


def l2(*, name: str = "l2", value_range: ValueRange = (0.0, 1.0), dtype: Any = None) -> Distance:
    """Mean squared difference: mean (x - y)^2.

    Args:
      name: the canonical spec.
      value_range: (low, high) of float images.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 4]; its map is the mean over channels.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> black, grey = jnp.zeros((1, 4, 4, 3)), jnp.full((1, 4, 4, 3), 0.25)
      >>> pj.make("l2")({}, black, grey).tolist()  # on [-1, 1]
      [0.25]
    """
    return _pointwise(name, value_range, dtype, jnp.square)


def charbonnier(
    *,
    eps: float = 1e-3,
    name: str = "charbonnier",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """The smooth l1: mean sqrt((x - y)^2 + eps^2). It is eps, not 0, for equal images.

    Args:
      eps: where the parabola gives way to the cone, on the [-1, 1] scale.
      name: the canonical spec.
      value_range: (low, high) of float images.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance of at least eps; its map is the mean over channels.

    Raises:
      InputError: if eps is not finite or below 1e-18.

    References:
      P. Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for
      computed imaging", ICIP 1994.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> same = jnp.zeros((1, 4, 4, 3))
      >>> round(pj.make("charbonnier", eps=0.01)({}, same, same).item(), 6)
      0.01
    """
    if not 1e-18 <= eps < math.inf:  # Its square must not vanish in float32.
        raise InputError(f"charbonnier: eps must be finite and at least 1e-18; got {eps!r}")
    return _pointwise(name, value_range, dtype, lambda d: jnp.sqrt(jnp.square(d) + eps**2))


def _pointwise(name: str, value_range: ValueRange, dtype: Any, penalty: Any) -> Distance:
    prepare = mapper(name, value_range, SIGNED, dtype=dtype)

    def embed(params: Params, images: ImageLike) -> Array:
        del params
        return prepare(images)

    def maps(params: Params, ex: Array, ey: Array) -> Terms:
        del params
        return {"pixels": penalty(ex - ey).mean(axis=-1)}

    return distance_from_maps(name, embed, maps)


def gradient(
    *,
    gray: bool = False,
    name: str = "gradient",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """Difference of forward differences: (mean |dx x - dx y| + mean |dy x - dy y|) / 2.

    Args:
      gray: compare the mean of the three channels instead of each channel.
      name: the canonical spec.
      value_range: (low, high) of float images, at least 2x2 pixels.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 2]; terms and maps "dx" and "dy".

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> dark, bright = jnp.zeros((1, 4, 4, 3)), jnp.ones((1, 4, 4, 3))
      >>> pj.make("gradient")({}, dark, bright).tolist()  # it sees edges, not brightness
      [0.0]
    """
    channels = 3 if gray else None
    prepare = mapper(name, value_range, SIGNED, dtype=dtype, channels=channels, min_size=(2, 2))

    def embed(params: Params, images: ImageLike) -> Embedding:
        del params
        images = prepare(images)
        if gray:
            # A sum, divided only after the absolute value: a division would be fused with the
            # differences, and its rounding push pixels that agree.
            images = sum_channels(images)
        return {"dx": jnp.diff(images, axis=2), "dy": jnp.diff(images, axis=1)}

    def maps(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params
        scale = 1 / 6 if gray else 1 / 2
        return {
            direction: scale * safe_abs(ex[direction] - ey[direction]).mean(axis=-1)
            for direction in ("dx", "dy")
        }

    return distance_from_maps(name, embed, maps)
