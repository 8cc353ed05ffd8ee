"""Distances of transformed images: pyramids, windows, other sizes.

Each takes a distance and gives a distance. `value_range` is that of the distance given, and of
the one made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_terms, size_of
from perceptual_jax.errors import (
    InputError,
    choice,
    finite_number,
    positive_integer,
    positive_number,
)
from perceptual_jax.ops.filters import gaussian_kernel
from perceptual_jax.ops.pyramids import gaussian_pyramid, laplacian_pyramid
from perceptual_jax.ops.value_range import TooSmallError, as_value_range, mapper
from perceptual_jax.ops.windows import extract_windows, window_counts

__all__ = [
    "MOST_LEVELS",
    "on_gaussian_pyramid",
    "on_laplacian_pyramid",
    "on_resized",
    "on_windows",
]

MOST_LEVELS = 30
"""Of a pyramid: those of an image of 2^30 pixels a side."""


def on_gaussian_pyramid(
    distance: Distance,
    levels: int = 3,
    weights: Sequence[float] | None = None,
    *,
    name: str | None = None,
    value_range: ValueRange = (0.0, 1.0),
) -> Distance:
    """sum_j weights[j] * distance at level j; each level is the 2x2 mean of the one before.

    Args:
      distance: what compares each level.
      levels: the number of levels; the first is the image itself.
      weights: one per level, finest first; by default 1 each.
      name: the name of what is made; by default it spells out the call.
      value_range: (low, high) of float images.

    Raises:
      InputError: for a wrong number of levels or weights; at trace time for images that are
        smaller than 2^(levels - 1).

    References:
      P. J. Burt, E. H. Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983.
    """
    called = name or "on_gaussian_pyramid"
    levels = positive_integer(f"{called}: levels", levels, MOST_LEVELS)
    weights = _level_weights(called, weights, levels)
    prepare = _in_own_range(called, value_range, 2 ** (levels - 1))
    return _on_levels(
        name or f"on_gaussian_pyramid({distance.name}, {levels}, {weights})",
        called,
        distance,
        weights,
        lambda images: gaussian_pyramid(prepare(images), levels),
    )


def on_laplacian_pyramid(
    distance: Distance,
    levels: int = 3,
    weights: Sequence[float] | None = None,
    *,
    sigma: float = 2.0,
    kernel_size: int = 5,
    kernel: np.ndarray | None = None,
    name: str | None = None,
    value_range: ValueRange = (0.0, 1.0),
) -> Distance:
    """sum_j weights[j] * distance at band j of the Laplacian pyramid, and at its low-pass rest.

    Bands are centred on the middle of the value range, so that a distance that knows of black
    and white sees them as grey images; differences of pixels do not change by it.

    Args:
      distance: what compares each level.
      levels: the number of band-pass levels; the low-pass image makes one more.
      weights: levels + 1 numbers, finest first; by default 1 each.
      sigma: standard deviation of the Gaussian, in pixels.
      kernel_size: its side, in pixels; odd.
      kernel: a kernel to blur with instead, [k] for rows and columns or [k, l], odd sides.
      name: the name of what is made; by default it spells out the call.
      value_range: (low, high) of float images.

    Raises:
      InputError: as `on_gaussian_pyramid`; for a kernel of even sides.

    References:
      P. J. Burt, E. H. Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983.
    """
    called = name or "on_laplacian_pyramid"
    levels = positive_integer(f"{called}: levels", levels, MOST_LEVELS)
    weights = _level_weights(called, weights, levels + 1)
    blur = _blur_kernel(called, sigma, kernel_size, kernel)
    middle = sum(as_value_range(value_range)) / 2
    prepare = _in_own_range(called, value_range, 2**levels)

    def pyramid(images: ImageLike) -> list[Array]:
        *bands, rest = laplacian_pyramid(prepare(images), levels, blur)
        return [*(band + middle for band in bands), rest]

    blurred_by = f"sigma={sigma}, kernel_size={kernel_size}" if kernel is None else "own kernel"
    spelled_out = f"on_laplacian_pyramid({distance.name}, {levels}, {weights}, {blurred_by})"
    return _on_levels(name or spelled_out, called, distance, weights, pyramid)


def on_windows(
    distance: Distance,
    size: int,
    stride: int,
    *,
    name: str | None = None,
    value_range: ValueRange = (0.0, 1.0),
) -> Distance:
    """The mean of the distance over all size x size windows, `stride` pixels apart.

    Args:
      distance: what compares the windows.
      size: the side of a window, in pixels.
      stride: between windows, in pixels.
      name: the name of what is made; by default it spells out the call.
      value_range: (low, high) of float images.

    Raises:
      InputError: if size or stride is not positive; at trace time for images smaller than size.
    """
    called = name or "on_windows"
    size = positive_integer(f"{called}: size", size)
    stride = positive_integer(f"{called}: stride", stride)
    prepare = _in_own_range(called, value_range, size)

    def embed(params: Params, images: ImageLike) -> Embedding:
        images = prepare(images)
        windows = extract_windows(images, size, stride)
        n, count = windows.shape[:2]
        inner = distance.embed(params, windows.reshape(n * count, *windows.shape[2:]))
        counts = window_counts(images.shape[1], images.shape[2], size, stride)
        inner = jax.tree.map(lambda leaf: leaf.reshape(n, *counts, *leaf.shape[1:]), inner)
        return {"windows": inner, "size": size_of(images)}

    def terms(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        compare: Callable[..., Array] = partial(distance.compare, params)
        for _ in range(2):
            compare = jax.vmap(compare, in_axes=(1, 1), out_axes=1)
        return {"windows": compare(ex["windows"], ey["windows"]).mean(axis=(1, 2))}

    name = name or f"on_windows({distance.name}, {size}, {stride})"
    return distance_from_terms(name, embed, terms, init=distance.init)


def on_resized(
    distance: Distance,
    size: int | tuple[int, int],
    *,
    method: str = "bicubic",
    value_range: ValueRange = (0.0, 1.0),
) -> Distance:
    """The distance of the images resized, with antialiasing, to a fixed size.

    Args:
      distance: what compares the resized images.
      size: (height, width) in pixels, or one number for both.
      method: "bicubic", "bilinear", "lanczos3" or "nearest".
      value_range: (low, high) of float images; bicubic overshoot is clipped to it.

    Raises:
      InputError: for a size that is not positive or an unknown method.
    """
    choice("method", method, ("bicubic", "bilinear", "lanczos3", "nearest"))
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise InputError(f"on_resized: size must be positive; got {size}")
    low, high = as_value_range(value_range)
    prepare = _in_own_range("on_resized", value_range, 1)

    def embed(params: Params, images: ImageLike) -> Embedding:
        images = prepare(images)
        shape = (images.shape[0], height, width, images.shape[3])
        return distance.embed(params, jnp.clip(jax.image.resize(images, shape, method), low, high))

    return distance._replace(
        name=f"on_resized({distance.name}, {(height, width)}, {method!r})", embed=embed
    )


def _in_own_range(
    name: str, value_range: ValueRange, smallest: int
) -> Callable[[ImageLike], Array]:
    """Checks images and leaves floats as they are; uint8 comes into the value range."""
    value_range = as_value_range(value_range)
    return mapper(name, value_range, value_range, min_size=(smallest, smallest))


def _level_weights(called: str, weights: Sequence[float] | None, wanted: int) -> tuple[float, ...]:
    if weights is None:
        return (1.0,) * wanted
    if not isinstance(weights, Sequence | np.ndarray) or len(weights) != wanted:
        got = len(weights) if isinstance(weights, Sequence | np.ndarray) else repr(weights)
        raise InputError(f"{called}: weights must be {wanted} numbers, one per level; got {got}")
    return tuple(finite_number(f"{called}: a weight", weight) for weight in weights)


def _blur_kernel(
    called: str, sigma: float, kernel_size: int, kernel: np.ndarray | None
) -> np.ndarray:
    if kernel is None:
        size = positive_integer(f"{called}: kernel_size", kernel_size)
        if size % 2 == 0:
            raise InputError(f"{called}: kernel_size must be odd; got {kernel_size}")
        return gaussian_kernel(size, positive_number(f"{called}: sigma", sigma))
    blur = np.asarray(kernel, np.float64)
    if blur.ndim not in (1, 2) or any(side % 2 == 0 for side in blur.shape):
        raise InputError(
            f"{called}: kernel must be [k] or [k, l] with odd sides; got shape {blur.shape}"
        )
    return blur


def _on_levels(
    name: str,
    called: str,
    distance: Distance,
    weights: tuple[float, ...],
    pyramid: Callable[[ImageLike], list[Array]],
) -> Distance:
    def embed(params: Params, images: ImageLike) -> Embedding:
        levels = pyramid(images)
        try:
            return [distance.embed(params, level) for level in levels]
        except TooSmallError as error:
            # What the last level lacks, the images lack that many times over.
            height, width = (side * 2 ** (len(levels) - 1) for side in error.needed)
            got = (images.shape[1], images.shape[2])
            raise TooSmallError(called, (height, width), got) from None

    def terms(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        return {
            f"level{j}": weight * distance.compare(params, ex[j], ey[j])
            for j, weight in enumerate(weights)
        }

    # Whether images may differ in size is for the distance to say.
    return distance_from_terms(name, embed, terms, init=distance.init, any_sizes=True)
