"""Maximum mean discrepancy of patches by random Fourier features, on images in [-1, 1]."""

from __future__ import annotations

import math
import zlib
from typing import Any

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Embedding, ImageLike, Key, Params, Terms, ValueRange
from perceptual_jax.distance import (
    Distance,
    distance_from_maps,
    missing_params,
    size_of,
    weighted_sum,
)
from perceptual_jax.distances.patches import CENTERS, patch_rbf
from perceptual_jax.distances.pixel import l2
from perceptual_jax.errors import InputError, choice, kernel_width, positive_integer
from perceptual_jax.ops.filters import pad_reflect
from perceptual_jax.ops.random_features import cosine_means
from perceptual_jax.ops.value_range import SIGNED, as_precision, mapper

__all__ = ["centered_filters", "mmd_plus_plus", "mmd_plus_plus_plus", "mmd_rff"]


def mmd_rff(
    *,
    patch_size: int = 3,
    sigma: float = 0.06,
    num_features: int = 1024,
    window: int | None = 32,
    stride: int = 16,
    center: str | None = None,
    padding: bool = True,
    name: str = "mmd-rff",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """MMD^2 of patches with a Gaussian kernel, by random features: 2 mean (f(x) - f(y))^2.

    f is the window mean of cos(w * image + b), one convolution with filters w ~ N(0, 1) / B and
    phases b ~ U[0, 2 pi). It tends to `mmd` with the same options as the number of features
    grows, at 1 / sqrt(num_features), in time linear in the patches.

    Args:
      patch_size: p, in pixels; odd with padding.
      sigma: the bandwidth per pixel of a patch, B = sigma p^2, on the [-1, 1] scale.
      num_features: how many filters are drawn.
      window: the side of a window, in pixels; None for the whole image, 1 for each patch alone.
      stride: between windows, in pixels; 1 where the window is 1.
      center: None; "mean" takes from each filter its mean, "channel_mean" its mean in each
        channel, so that brightness or colour does not count.
      padding: mirror the image at its border by p // 2.
      name: the canonical spec, under which the draws stand in params.
      value_range: (low, high) of float images.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance in [0, 8]; its map has a value for each window. Without windows there is no
      map, and images may differ in size. Params are
      `{name: {"w": [p, p, c, num_features], "b": [num_features]}}`, for images of 3 channels.

    Raises:
      InputError: for options out of range; at trace time for images smaller than a window.

    References:
      A. Rahimi, B. Recht, "Random Features for Large-Scale Kernel Machines", NIPS 2007.
      D. Amir, Y. Weiss, "Understanding and Simplifying Perceptual Distances", CVPR 2021.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> rff = pj.make("mmd-rff", num_features=64)
      >>> params = rff.init(jax.random.key(0))
      >>> x = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3))
      >>> rff(params, x, x).tolist()
      [0.0, 0.0]
    """
    size = positive_integer(f"{name}: patch_size", patch_size)
    bandwidth = kernel_width(f"{name}: sigma", sigma) * size**2
    count = positive_integer(f"{name}: num_features", num_features)
    choice(f"{name}: center", center, CENTERS)
    if padding and size % 2 == 0:
        raise InputError(f"{name}: patch_size must be odd with padding; got {patch_size}")
    if window is not None:
        window = positive_integer(f"{name}: window", window)
    stride = 1 if window == 1 else positive_integer(f"{name}: stride", stride)
    margin = size // 2 if padding else 0
    precision = as_precision(precision)
    smallest = max((window or 1) + size - 1 - 2 * margin, margin + 1)
    prepare = mapper(
        name, value_range, SIGNED, dtype=dtype, channels=3, min_size=(smallest, smallest)
    )

    def init(key: Key) -> Params:
        key_w, key_b = jax.random.split(jax.random.fold_in(key, zlib.crc32(b"mmd-rff")))
        float_dtype = jnp.result_type(float)
        w = jax.random.normal(key_w, (size, size, 3, count), float_dtype) / bandwidth
        b = jax.random.uniform(key_b, (count,), float_dtype, 0, 2 * math.pi)
        return {name: {"w": centered_filters(w, center), "b": b}}

    def embed(params: Params, images: ImageLike) -> Embedding:
        if name not in params:
            raise missing_params(name, name, params)
        draws = params[name]
        images = prepare(images)
        padded = pad_reflect(images, margin) if margin else images
        means = cosine_means(padded, draws["w"], draws["b"], window, stride, precision)
        return {"means": means} if window is None else {"means": means, "size": size_of(images)}

    def maps(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params
        return {"windows": 2 * jnp.square(ex["means"] - ey["means"]).mean(axis=-1)}

    distance = distance_from_maps(name, embed, maps, init=init)
    return distance._replace(compare_maps=None) if window is None else distance


def centered_filters(filters: Array, center: str | None) -> Array:
    """Filters [p, p, c, k] without what `center` names: their mean, or that of each channel."""
    if center is None:
        return filters
    axes = (0, 1, 2) if center == "mean" else (0, 1)
    return filters - filters.mean(axis=axes, keepdims=True)


def mmd_plus_plus(
    *,
    num_features: int = 512,
    name: str = "mmd++",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """MMD++: .001 l2 + .05 patch-rbf(3, .1) + mmd-rff(3, .06, center="channel_mean") / 2.

    Where the patch distribution says what there is, the other two say where.

    Args:
      num_features: how many filters are drawn.
      name: the canonical spec, under which the draws stand in params.
      value_range: (low, high) of float images, at least 32x32 pixels.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0, with terms "l2", "patch-rbf" and "mmd-rff".

    Raises:
      InputError: for options out of range; at trace time for images smaller than a window.

    References:
      D. Amir, Y. Weiss, "Understanding and Simplifying Perceptual Distances", CVPR 2021.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> loss = pj.make("mmd++", num_features=64)
      >>> x = jax.random.uniform(jax.random.key(1), (1, 32, 32, 3))
      >>> sorted(loss.terms(loss.init(jax.random.key(0)), x, x))
      ['l2', 'mmd-rff', 'patch-rbf']
    """
    common: dict[str, Any] = {"value_range": value_range, "dtype": dtype}
    features = mmd_rff(
        num_features=num_features, center="channel_mean", name=name, precision=precision, **common
    )
    parts = {
        "l2": (0.001, l2(**common)),
        "patch-rbf": (0.05, patch_rbf(**common)),
        "mmd-rff": (0.5, features),
    }
    return weighted_sum(parts, name=name)


def mmd_plus_plus_plus(
    *,
    num_features: int = 512,
    name: str = "mmd+++",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """MMD+++: .001 l2 + .05 patch-rbf(11, .02) + mmd-rff(3, .03, center="channel_mean") / 2.

    Args:
      num_features: how many filters are drawn.
      name: the canonical spec, under which the draws stand in params.
      value_range: (low, high) of float images, at least 32x32 pixels.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0, with terms "l2", "patch-rbf" and "mmd-rff".

    Raises:
      InputError: for options out of range; at trace time for images smaller than a window.

    References:
      D. Amir, Y. Weiss, "Understanding and Simplifying Perceptual Distances", CVPR 2021.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> loss = pj.make("mmd+++", num_features=64)
      >>> x = jax.random.uniform(jax.random.key(1), (1, 32, 32, 3))
      >>> loss(loss.init(jax.random.key(0)), x, x).tolist()
      [0.0]
    """
    common: dict[str, Any] = {"value_range": value_range, "dtype": dtype}
    features = mmd_rff(
        sigma=0.03,
        num_features=num_features,
        center="channel_mean",
        name=name,
        precision=precision,
        **common,
    )
    parts = {
        "l2": (0.001, l2(**common)),
        "patch-rbf": (0.05, patch_rbf(patch_size=11, sigma=0.02, **common)),
        "mmd-rff": (0.5, features),
    }
    return weighted_sum(parts, name=name)
