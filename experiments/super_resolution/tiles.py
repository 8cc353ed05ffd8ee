"""Pictures of any size through a network, tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from perceptual_jax._typing import Array

__all__ = ["TILE", "in_tiles"]

TILE = 256
"""The side of a tile, in small pixels: 300 with the margins, so that the maps of 64 channels take
23 MB each."""


class _Part(NamedTuple):
    """A part of an axis: [first, last) is its own, and a window from `start` on is looked at."""

    first: int
    last: int
    start: int


def in_tiles(
    enlarge: Callable[[np.ndarray], Array],
    picture: np.ndarray,
    *,
    scale: int,
    margin: int,
    tile: int = TILE,
) -> np.ndarray:
    """What a network makes of a picture, tile by tile: the same as of the whole.

    Tiles are cut out with a margin of what they depend on. Windows end where the picture does, so
    that its border is where it was, and all are of one size, so that they are one program.

    Args:
      enlarge: [1, h, w, 3] to [1, scale * h, scale * w, 3].
      picture: [h, w, 3].
      scale: how many times larger the sides become.
      margin: how far pixels reach, in small pixels.
      tile: the side of a tile without its margins.

    Returns:
      [scale * h, scale * w, 3].
    """
    height, width = picture.shape[:2]
    canvas = np.empty((scale * height, scale * width, 3), np.float32)
    window = tile + 2 * margin
    for down in _parts(height, tile, margin):
        for across in _parts(width, tile, margin):
            seen = picture[down.start : down.start + window, across.start : across.start + window]
            made = np.asarray(enlarge(seen[None]))[0]
            rows, columns = (
                slice(scale * (part.first - part.start), scale * (part.last - part.start))
                for part in (down, across)
            )
            canvas[
                scale * down.first : scale * down.last, scale * across.first : scale * across.last
            ] = made[rows, columns]
    return canvas


def _parts(length: int, tile: int, margin: int) -> list[_Part]:
    window = tile + 2 * margin
    if length <= window:
        return [_Part(0, length, 0)]
    return [
        _Part(first, min(first + tile, length), min(max(first - margin, 0), length - window))
        for first in range(0, length, tile)
    ]
