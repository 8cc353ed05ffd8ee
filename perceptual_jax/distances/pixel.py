"""Distances of pixels, on images in [-1, 1]."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_maps, distance_from_terms
from perceptual_jax.errors import positive_number
from perceptual_jax.ops.filters import sum_channels
from perceptual_jax.ops.safe import safe_abs, safe_power
from perceptual_jax.ops.value_range import SIGNED, at_least_float32, mapper

__all__ = ["charbonnier", "fft_l1", "gradient", "l1", "l2", "lp", "total_variation"]


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
      InputError: if eps is not from 1e-18 to 1e18.

    References:
      P. Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for
      computed imaging", ICIP 1994.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> same = jnp.zeros((1, 4, 4, 3))
      >>> round(pj.make("charbonnier", eps=0.01)({}, same, same).item(), 6)
      0.01
    """
    # Its square is a number of float32.
    eps = positive_number(f"{name}: eps", eps, 1e-18, 1e18)
    return _pointwise(name, value_range, dtype, lambda d: jnp.sqrt(jnp.square(d) + eps**2))


def lp(
    *,
    p: float = 0.5,
    name: str = "lp",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """Mean power of the absolute difference: mean |x - y|^p.

    With p < 1 a few pixels that differ much cost less than many that differ a little.

    Args:
      p: the power, positive, at most 100.
      name: the canonical spec.
      value_range: (low, high) of float images.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 2^p]; its map is the mean over channels. The gradient is 0 where pixels
      agree.

    Raises:
      InputError: if p is not finite and positive.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> black, grey = jnp.zeros((1, 4, 4, 3)), jnp.full((1, 4, 4, 3), 0.125)
      >>> pj.make("lp")({}, black, grey).tolist()  # on [-1, 1]
      [0.5]
    """
    # The power of the largest difference, 2, is a number of float32.
    p = positive_number(f"{name}: p", p, most=100)
    return _pointwise(name, value_range, dtype, lambda d: safe_power(d, p))


def fft_l1(
    *, name: str = "fft-l1", value_range: ValueRange = (0.0, 1.0), dtype: Any = None
) -> Distance:
    """l1 of spectra: mean of |Re| and |Im| of the orthonormal Fourier transform of x - y.

    A blur that is small in every pixel is large in the high frequencies: restoration networks
    are trained with it beside an l1 of pixels.

    Args:
      name: the canonical spec.
      value_range: (low, high) of float images.
      dtype: the dtype of the images; the transform is in float32 or wider.

    Returns:
      A distance of at least 0.

    References:
      S. Cho et al., "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", ICCV 2021,
      https://arxiv.org/abs/2108.05054

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> same = jnp.zeros((1, 4, 4, 3))
      >>> pj.make("fft-l1")({}, same, same).tolist()
      [0.0]
    """
    prepare = mapper(name, value_range, SIGNED, dtype=dtype)

    def embed(params: Params, images: ImageLike) -> Embedding:
        del params
        return at_least_float32(prepare(images))

    def terms(params: Params, ex: Array, ey: Array) -> Terms:
        del params
        # The transform of the difference: exactly 0 where the images agree.
        spectrum = jnp.fft.fft2(ex - ey, axes=(1, 2), norm="ortho")
        parts = safe_abs(spectrum.real) + safe_abs(spectrum.imag)
        return {"frequencies": parts.mean(axis=(1, 2, 3)) / 2}

    return distance_from_terms(name, embed, terms)


def total_variation(images: Array) -> Array:
    """Mean |dx| + mean |dy| of forward differences, [n]: a regulariser, not a distance.

    Args:
      images: [n, h, w, c], at least 2x2, in any range.

    References:
      L. Rudin, S. Osher, E. Fatemi, "Nonlinear total variation based noise removal
      algorithms", Physica D 1992.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> pj.total_variation(jnp.arange(4.0).reshape(1, 1, 4, 1).repeat(2, axis=1)).tolist()
      [1.0]
    """
    axes = (1, 2, 3)
    across = safe_abs(jnp.diff(images, axis=2)).mean(axis=axes)
    return across + safe_abs(jnp.diff(images, axis=1)).mean(axis=axes)


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
