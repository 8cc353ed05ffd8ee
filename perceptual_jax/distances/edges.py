"""Distances of oriented filters: how strongly edges and stripes answer, window by window."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_maps, missing_params, size_of
from perceptual_jax.distances.features import imagenet_normalised, pretrained
from perceptual_jax.errors import InputError, choice, positive_integer
from perceptual_jax.ops.convolution import conv2d
from perceptual_jax.ops.safe import positive_part
from perceptual_jax.ops.value_range import SIGNED, as_precision, mapper
from perceptual_jax.ops.windows import window_means

__all__ = ["gabor", "oriented_edges"]

_PREWITT = np.array([[1.0, 0.0, -1.0]] * 3)


def oriented_edges(
    *,
    window: int = 32,
    stride: int = 16,
    name: str = "oriented-edges",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """Edges of two directions: mean (m(x) - m(y))^2, m the window means of ReLU(Prewitt * gray).

    Where in its window an edge is does not count.

    Args:
      window: the side of a window, in pixels.
      stride: between windows, in pixels.
      name: the canonical spec.
      value_range: (low, high) of float images, of three channels and at least a window large.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0; its map has a value for each window.

    Raises:
      InputError: for options out of range; at trace time for images smaller than a window.

    References:
      J. Prewitt, "Object Enhancement and Extraction", 1970.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> same = jnp.zeros((1, 32, 32, 3))
      >>> pj.make("oriented-edges")({}, same, same).tolist()
      [0.0]
    """
    bank = np.stack([_PREWITT, _PREWITT.T], axis=-1)[:, :, None]
    precision = as_precision(precision)

    def answers(params: Params, images: Array) -> Array:
        del params
        gray = images.mean(axis=-1, keepdims=True)
        return conv2d(gray, jnp.asarray(bank, images.dtype), padding=1, precision=precision)

    return _of_answers(name, answers, window, stride, value_range, dtype)


def gabor(
    *,
    patch_size: int = 11,
    filters: str = "gabor",
    window: int = 32,
    stride: int = 16,
    name: str = "gabor",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """Stripes of many directions and widths: as `oriented_edges`, with a bank of Gabor filters.

        exp(-(u^2 + g^2 v^2) / (2 s^2)) cos(2 pi u / l + pi)

    at 8 orientations of (u, v), for s in {.2 p, .4 p}, wavelength l in {.25 p, .5 p} and aspect
    g in {1, 2}: 64 filters of gray images.

    Args:
      patch_size: p, the side of a filter, in pixels; odd.
      filters: "gabor", or "alexnet": the trained first layer of AlexNet, 64 filters of colour
        images normalised as in its training.
      window: the side of a window, in pixels.
      stride: between windows, in pixels.
      name: the canonical spec.
      value_range: (low, high) of float images, of three channels and at least a window large.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0; its map has a value for each window. With `filters="alexnet"`
      params are keyed by "alexnet".

    Raises:
      InputError: for options out of range; at trace time for images smaller than a window.

    References:
      J. Daugman, "Uncertainty relation for resolution in space, spatial frequency, and
      orientation optimized by two-dimensional visual cortical filters", JOSA A 1985.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> same = jnp.zeros((1, 32, 32, 3))
      >>> pj.make("gabor")({}, same, same).tolist()
      [0.0]
    """
    choice(f"{name}: filters", filters, ("gabor", "alexnet"))
    size = positive_integer(f"{name}: patch_size", patch_size)
    if size % 2 == 0:
        raise InputError(f"{name}: patch_size must be odd; got {patch_size}")
    precision = as_precision(precision)

    def gabor_answers(params: Params, images: Array) -> Array:
        del params
        gray = images.mean(axis=-1, keepdims=True)
        bank = jnp.asarray(gabor_bank(size), images.dtype)
        return conv2d(gray, bank, padding=size // 2, precision=precision)

    def alexnet_answers(params: Params, images: Array) -> Array:
        if "alexnet" not in params:
            raise missing_params(name, "alexnet", params)
        first = params["alexnet"]["conv1"]
        images = imagenet_normalised(images)
        return conv2d(images, first["kernel"], first["bias"], padding=5, precision=precision)

    if filters == "alexnet":
        if size != 11:
            raise InputError(f"{name}: AlexNet's filters have patch_size 11; got {patch_size}")
        distance = _of_answers(name, alexnet_answers, window, stride, value_range, dtype)
        return distance._replace(init=pretrained("alexnet"))
    return _of_answers(name, gabor_answers, window, stride, value_range, dtype)


def gabor_bank(size: int) -> np.ndarray:
    """The 64 filters of `gabor`, [size, size, 1, 64]."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    bank = []
    for orientation in range(8):
        angle = orientation * math.pi / 8
        u = columns * math.cos(angle) + rows * math.sin(angle)
        v = rows * math.cos(angle) - columns * math.sin(angle)
        for sigma in (0.2 * size, 0.4 * size):
            for wavelength in (0.25 * size, 0.5 * size):
                for aspect in (1, 2):
                    envelope = np.exp(-(u**2 + (aspect * v) ** 2) / (2 * sigma**2))
                    bank.append(envelope * np.cos(2 * math.pi * u / wavelength + math.pi))
    return np.stack(bank, axis=-1)[:, :, None]


def _of_answers(
    name: str,
    answers: Callable[[Params, Array], Array],
    window: int,
    stride: int,
    value_range: ValueRange,
    dtype: Any,
) -> Distance:
    window = positive_integer(f"{name}: window", window)
    stride = positive_integer(f"{name}: stride", stride)
    prepare = mapper(name, value_range, SIGNED, dtype=dtype, channels=3, min_size=(window, window))

    def embed(params: Params, images: ImageLike) -> Embedding:
        images = prepare(images)
        means = window_means(positive_part(answers(params, images)), window, stride)
        return {"means": means, "size": size_of(images)}

    def maps(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params
        return {"windows": jnp.square(ex["means"] - ey["means"]).mean(axis=-1)}

    return distance_from_maps(name, embed, maps)
