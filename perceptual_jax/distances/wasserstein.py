"""Sliced Wasserstein distance of patches, on images in [-1, 1].

The patches of an image are a sample of a distribution. Seen along one direction, two samples are as
far apart as their sorted values; the distance is the mean over random directions. Where a patch is
does not count.

References:
  J. Rabin, G. Peyre, J. Delon, M. Bernot, "Wasserstein Barycenter and Its Application to Texture
  Mixing", SSVM 2011.
"""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Embedding, ImageLike, Key, Params, Terms, ValueRange
from perceptual_jax.combinators import on_laplacian_pyramid, on_windows
from perceptual_jax.distance import Distance, distance_from_terms, missing_params, weighted_sum
from perceptual_jax.distances.patches import CENTERS, patch_rbf
from perceptual_jax.distances.pixel import l2
from perceptual_jax.errors import InputError, choice, positive_integer, positive_number
from perceptual_jax.ops.sorting import sliced_difference, sort_last
from perceptual_jax.ops.value_range import SIGNED, as_precision, at_least_float32, mapper
from perceptual_jax.ops.windows import project_patches

__all__ = ["PROJECTIONS", "lap_swd", "swd", "swd_plus_plus", "windowed_swd"]

PROJECTIONS = ("unit", "std")
"""How directions are scaled: to norm 1, or to standard deviation 1 (over count - 1)."""


def swd(
    *,
    patch_size: int = 7,
    stride: int = 1,
    num_projections: int = 256,
    power: float = 1.0,
    projection: str = "unit",
    center: str | None = None,
    name: str = "swd",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """Sliced Wasserstein: mean |sort(P u) - sort(P v)|^power over directions P and patches u, v.

    Images of other sizes than each other are compared by quantiles.

    Args:
      patch_size: p, in pixels; only whole patches.
      stride: between patches, in pixels.
      num_projections: how many directions are drawn.
      power: 1 for the 1-Wasserstein distance, 2 for the square of the 2-Wasserstein one; at
        most 30.
      projection: a key of `PROJECTIONS`.
      center: None; "mean" takes from each image its mean, "channel_mean" its mean in each
        channel, so that brightness or colour does not count.
      name: the canonical spec, under which the directions stand in params.
      value_range: (low, high) of float images, at least p x p pixels.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0. Params are `{name: {"projections": [p, p, 3, num_projections]}}`.

    Raises:
      InputError: for options out of range; at trace time for images smaller than a patch.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> pixels = pj.make("swd", patch_size=1, num_projections=16)
      >>> params = pixels.init(jax.random.key(0))
      >>> x = jax.random.uniform(jax.random.key(1), (1, 8, 8, 3))
      >>> pixels(params, x, x[:, ::-1]).tolist()  # the same pixels elsewhere
      [0.0]
    """
    size = positive_integer(f"{name}: patch_size", patch_size)
    stride = positive_integer(f"{name}: stride", stride)
    count = positive_integer(f"{name}: num_projections", num_projections)
    power = positive_number(f"{name}: power", power, most=30)
    choice(f"{name}: projection", projection, PROJECTIONS)
    choice(f"{name}: center", center, CENTERS)
    precision = as_precision(precision)
    prepare = mapper(name, value_range, SIGNED, dtype=dtype, channels=3, min_size=(size, size))

    def init(key: Key) -> Params:
        key = jax.random.fold_in(key, zlib.crc32(b"swd"))
        directions = jax.random.normal(key, (size, size, 3, count), jnp.result_type(float))
        return {name: {"projections": scaled_directions(directions, projection)}}

    def embed(params: Params, images: ImageLike) -> Embedding:
        if name not in params:
            raise missing_params(name, name, params)
        images = prepare(images)
        if center is not None:
            axes = (1, 2, 3) if center == "mean" else (1, 2)
            images = images - images.mean(axis=axes, keepdims=True)
        projections = params[name]["projections"]
        return sort_last(at_least_float32(project_patches(images, projections, stride, precision)))

    def terms(params: Params, ex: Array, ey: Array) -> Terms:
        del params
        return {"patches": sliced_difference(ex, ey, power)}

    return distance_from_terms(name, embed, terms, init=init, any_sizes=True)


def scaled_directions(directions: Array, projection: str) -> Array:
    """Directions [p, p, c, k], each scaled as `PROJECTIONS` says."""
    axes = (0, 1, 2)
    if projection == "unit":
        return directions / jnp.sqrt(jnp.square(directions).sum(axis=axes, keepdims=True))
    return directions / directions.std(axis=axes, keepdims=True, ddof=1)


def swd_plus_plus(
    *,
    num_projections: int = 128,
    name: str = "swd++",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """SWD++: .01 l2 + .2 patch-rbf(11, .015) + swd(11, stride 5, center="channel_mean").

    Args:
      num_projections: how many directions are drawn.
      name: the canonical spec, under which the directions stand in params.
      value_range: (low, high) of float images, at least 11x11 pixels.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0, with terms "l2", "patch-rbf" and "swd".

    Raises:
      InputError: for options out of range; at trace time for images smaller than a patch.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> loss = pj.make("swd++", num_projections=16)
      >>> x = jax.random.uniform(jax.random.key(1), (1, 16, 16, 3))
      >>> loss(loss.init(jax.random.key(0)), x, x).tolist()
      [0.0]
    """
    common: dict[str, Any] = {"value_range": value_range, "dtype": dtype}
    slices = swd(
        patch_size=11,
        stride=5,
        num_projections=num_projections,
        center="channel_mean",
        name=name,
        precision=precision,
        **common,
    )
    parts = {
        "l2": (0.01, l2(**common)),
        "patch-rbf": (0.2, patch_rbf(patch_size=11, sigma=0.015, **common)),
        "swd": (1.0, slices),
    }
    return weighted_sum(parts, name=name)


def windowed_swd(
    *,
    patch_size: int = 3,
    window: int = 32,
    stride: int = 16,
    num_projections: int = 256,
    power: float = 1.0,
    projection: str = "unit",
    name: str = "windowed-swd",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """The mean of `swd` over windows: patches may move within a window, and no farther.

    Args:
      patch_size: p, in pixels; only whole patches.
      window: the side of a window, in pixels.
      stride: between windows, in pixels.
      num_projections: as for `swd`, and so are all others.
      power: of the differences, at most 30.
      projection: a key of `PROJECTIONS`.
      name: the canonical spec, under which the directions stand in params.
      value_range: (low, high) of float images, at least a window large.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0.

    Raises:
      InputError: for options out of range; at trace time for images smaller than a window.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> local = pj.make("windowed-swd", num_projections=16)
      >>> x = jax.random.uniform(jax.random.key(1), (1, 32, 32, 3))
      >>> local(local.init(jax.random.key(0)), x, x).tolist()
      [0.0]
    """
    window = positive_integer(f"{name}: window", window)
    if positive_integer(f"{name}: patch_size", patch_size) > window:
        raise InputError(
            f"{name}: patch_size must be at most the window's {window}; got {patch_size}"
        )
    slices = swd(
        patch_size=patch_size,
        num_projections=num_projections,
        power=power,
        projection=projection,
        name=name,
        value_range=value_range,
        dtype=dtype,
        precision=precision,
    )
    stride = positive_integer(f"{name}: stride", stride)
    return on_windows(slices, window, stride, name=name, value_range=value_range)


def lap_swd(
    *,
    levels: int = 3,
    patch_size: int = 7,
    num_projections: int = 256,
    power: float = 1.0,
    projection: str = "unit",
    name: str = "lap-swd",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """The sum of `swd` over the bands of a Laplacian pyramid and its low-pass rest.

    Args:
      levels: the number of band-pass levels.
      patch_size: p, in pixels; only whole patches of every level.
      num_projections: as for `swd`, and so are all others.
      power: of the differences, at most 30.
      projection: a key of `PROJECTIONS`.
      name: the canonical spec, under which the directions stand in params.
      value_range: (low, high) of float images, at least 2^levels p pixels a side.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0, with a term for each level.

    Raises:
      InputError: for options out of range; at trace time for images too small.

    References:
      T. Karras et al., "Progressive Growing of GANs", ICLR 2018, which measures sets of images so.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> bands = pj.make("lap-swd", levels=1, num_projections=16)
      >>> x = jax.random.uniform(jax.random.key(1), (1, 16, 16, 3))
      >>> bands(bands.init(jax.random.key(0)), x, x).tolist()
      [0.0]
    """
    slices = swd(
        patch_size=patch_size,
        num_projections=num_projections,
        power=power,
        projection=projection,
        name=name,
        value_range=value_range,
        dtype=dtype,
        precision=precision,
    )
    return on_laplacian_pyramid(slices, levels, name=name, value_range=value_range)
