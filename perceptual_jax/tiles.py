"""Distances of images too large to compare at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, ImageLike, Params, Terms
from perceptual_jax.distance import Distance
from perceptual_jax.errors import InputError, positive_integer
from perceptual_jax.ops.value_range import UNIT, TooSmallError, mapper

__all__ = ["tiled"]


def tiled(distance: Distance, *, tile: int = 1024, margin: int = 128) -> Distance:
    """The same distance, tile by tile: that of large images in the memory of small ones.

    Images are cut into windows that overlap by twice the margin. Each is embedded and compared
    alone, forward and backward, and its maps without the margins are put together. A window at
    the border ends where the image does, so that padding is where it was. Values, maps and
    gradients are those of the distance itself, to rounding. On CPU, a pair of 4096 x 4096 px
    under "lpips-vgg" takes 2.8 GiB so and 31 otherwise, its gradient 5.2 and 59.

    Args:
      distance: one with maps, each value of which depends on the pixels around it alone.
      tile: the side of a tile, in pixels, or less where that shares an image evenly. It takes
        the memory of comparing images of tile + 2 margin.
      margin: around every tile, in pixels; it grows to a multiple of the distance's stride. Half
        of (side of what one value of a map sees + its stride) is enough, and with less, numbers
        near the seams are wrong: 6 for SSIM, 0 for pixels; for networks as
        `Backbone.receptive_field` says, 106 for LPIPS on VGG-16, 90 on AlexNet, 112 on SqueezeNet.
        128 is enough for the default layers of all networks and for windows of up to 200 px.

    Returns:
      A distance whose embedding is the images, with a term for each map. Images of at most
      tile + 2 margin pixels a side go to the distance as they are.

    Raises:
      InputError: if the distance has no maps, tile is not positive or margin negative; at trace
        time for tiles smaller than the distance is defined for, a margin that shows to be too
        small, and maps that do not grow with the image by a value every so many pixels, as
        those of resized images and SSIM's preset "matlab".

    Example:
      >>> import jax, perceptual_jax as pj
      >>> ssim = pj.make("ssim")
      >>> in_tiles = pj.tiled(ssim, tile=32, margin=10)
      >>> x, y = jax.random.uniform(jax.random.key(0), (2, 1, 75, 100, 3))
      >>> in_tiles.map({}, x, y).shape
      (1, 75, 100)
      >>> bool(abs(in_tiles({}, x, y) - ssim({}, x, y))[0] < 1e-6)
      True
    """
    tile = positive_integer("tiled: tile", tile)
    if isinstance(margin, bool) or not isinstance(margin, int | np.integer) or margin < 0:
        raise InputError(f"tiled: margin must be a whole number of at least 0; got {margin!r}")
    if distance.compare_maps is None:
        raise InputError(f"tiled: {distance.name} has no maps: it is not a mean over places")
    inner_maps = distance.compare_maps
    name = f"tiled({distance.name}, {tile}, {margin})"
    check = mapper(name, UNIT, UNIT)

    def embed(params: Params, images: ImageLike) -> Array:
        del params
        check(images)
        return jnp.asarray(images)

    def of_images(params: Params, x: Array, y: Array) -> Terms:
        return inner_maps(params, distance.embed(params, x), distance.embed(params, y))

    def maps(params: Params, x: Array, y: Array) -> Terms:
        whole = _sizes(jax.eval_shape(of_images, params, x, y))  # Raises for what does not match.
        if max(x.shape[1:3]) <= tile + 2 * margin:
            return of_images(params, x, y)

        def sizes(height: int, width: int) -> _Sizes:
            image = jax.ShapeDtypeStruct((1, height, width, x.shape[3]), x.dtype)
            try:
                return _sizes(jax.eval_shape(of_images, params, image, image))
            except TooSmallError as error:
                raise InputError(f"{name}: a tile with its margins is too small: {error}") from None

        strides = _strides(name, sizes, tile + 2 * margin)
        axes = [_cut(side, tile, margin, math.lcm(*strides.values())) for side in x.shape[1:3]]
        height, width = (axis.window for axis in axes)
        rest = (x.shape[1] - height, x.shape[2] - width)
        _check_growth(name, strides, sizes(height, width), whole, rest)
        shares = {
            term: [
                axis.shares(name, of, strides[term]) for axis, of in zip(axes, size, strict=True)
            ]
            for term, size in whole.items()
        }

        # Rematerialised, so that the gradient's memory is that of one window as well.
        @jax.checkpoint
        def of_window(corner: Array) -> Terms:
            def window(images: Array) -> Array:
                rows = jax.lax.dynamic_slice_in_dim(images, corner[0], height, axis=1)
                return jax.lax.dynamic_slice_in_dim(rows, corner[1], width, axis=2)

            return of_images(params, window(x), window(y))

        rows, columns = (axis.starts for axis in axes)
        corners = jnp.asarray([(top, left) for top in rows for left in columns], jnp.int32)
        by_window = jax.lax.map(of_window, corners)

        def put_together(term: str) -> Array:
            parts = by_window[term].reshape(len(rows), len(columns), *by_window[term].shape[1:])
            # The axis to join along is the third both times: of [columns, n, h', w'], whose rows
            # become one, and then of [n, h', w'].
            for share in shares[term]:
                cut = [
                    jax.lax.slice_in_dim(part, start, stop, axis=2)
                    for part, (start, stop) in zip(parts, share, strict=True)
                ]
                parts = jnp.concatenate(cut, axis=2)
            return parts

        return {term: put_together(term) for term in whole}

    def terms(params: Params, ex: Array, ey: Array) -> Terms:
        return {term: m.mean(axis=(1, 2)) for term, m in maps(params, ex, ey).items()}

    def compare(params: Params, ex: Array, ey: Array) -> Array:
        return sum(terms(params, ex, ey).values())  # type: ignore[return-value]

    return Distance(name, distance.init, embed, compare, terms, maps)


_Sizes: TypeAlias = dict[str, tuple[int, int]]
"""The height and width of every map."""

_GROWTH = 2880
"""How much larger an image is imagined to see how its maps grow: a multiple of many strides, and
more than twice the square of every other up to 37."""


def _sizes(maps: Terms) -> _Sizes:
    return {term: (m.shape[1], m.shape[2]) for term, m in maps.items()}


def _strides(name: str, sizes: Callable[[int, int], _Sizes], side: int) -> dict[str, int]:
    """How many pixels apart the values of every map are; images of this side are large enough."""
    small, large = sizes(side, side), sizes(side + _GROWTH, side + _GROWTH)
    # Too long a stride where a map does not grow; the check refuses it.
    strides = {term: round(_GROWTH / max(large[term][0] - small[term][0], 1)) for term in small}
    period = math.lcm(*strides.values())
    _check_growth(name, strides, small, sizes(side + period, side + period), (period, period))
    return strides


def _check_growth(
    name: str, strides: dict[str, int], small: _Sizes, large: _Sizes, by: tuple[int, int]
) -> None:
    """Refuses maps that do not grow by a value every stride where the image grows `by` pixels."""
    for term, stride in strides.items():
        grown = [after - before for before, after in zip(small[term], large[term], strict=True)]
        if any(more * stride != pixels for more, pixels in zip(grown, by, strict=True)):
            raise InputError(
                f"{name}: the map {term!r} does not grow with the image by a value every so many "
                "pixels, and cannot be put together from tiles"
            )


class _Axis(NamedTuple):
    """One side of an image as windows of one size, which overlap.

    Attributes:
      side: of the image, in pixels.
      window: of a window.
      starts: of the windows; the last one ends with the side.
    """

    side: int
    window: int
    starts: tuple[int, ...]

    def shares(self, name: str, length: int, stride: int) -> list[tuple[int, int]]:
        """Which values [start, stop) of every window's map make up the map of this length.

        The seam is where the values' fields are in the middle of the overlap.
        """
        # Twice the pixels by which the map is inset, where it is not padded.
        inset = self.side - length * stride
        seams = [
            (after + before + self.window - inset + stride) // (2 * stride)
            for before, after in pairwise(self.starts)
        ]
        bounds = pairwise([0, *seams, length])
        shares = [
            (low - start // stride, high - start // stride)
            for start, (low, high) in zip(self.starts, bounds, strict=True)
        ]
        seen = length - self.starts[-1] // stride
        if any(not 0 <= low < high <= seen for low, high in shares):
            raise InputError(f"{name}: the margin is too small for what a value of a map sees")
        return shares


def _cut(side: int, tile: int, margin: int, period: int) -> _Axis:
    """Shares a side among windows of at most about `tile` pixels and the margins.

    Windows start at multiples of the period, at which the strides of all layers meet, and leave
    the same remainder as the side: so the last one, which ends with it, does too.
    """
    margin = _multiple(margin, period)
    count = -(-(side - 2 * margin) // _multiple(tile, period))
    tile = _multiple(-(-(side - 2 * margin) // max(count, 1)), period)
    window = tile + 2 * margin + (side - 2 * margin) % period
    if count <= 1 or window >= side:
        return _Axis(side, side, (0,))
    return _Axis(side, window, (*range(0, side - window, tile), side - window))


def _multiple(number: int, of: int) -> int:
    """The number, or the next multiple."""
    return -(-number // of) * of
