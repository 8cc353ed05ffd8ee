"""What is missing of a picture: masks, True where it is to be filled."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

import perceptual_jax as pj
from perceptual_jax.errors import InputError

__all__ = ["Masks", "drawn", "read_mask", "scattered", "with_hole"]

Masks = Literal["squares", "strokes", "both"]
_GREY = 128


def drawn(kind: Masks, size: int, rng: np.random.Generator) -> np.ndarray:
    """A mask, bool [size, size]: a square of a quarter to a half of the side, or some strokes."""
    if kind == "both":
        kind = "squares" if rng.integers(2) else "strokes"
    return _square(size, rng) if kind == "squares" else _strokes(size, rng)


def scattered(kind: Masks, shape: tuple[int, int], size: int, seed: tuple[int, ...]) -> np.ndarray:
    """Masks of a square of this size, as training draws them, all over a picture.

    They are put on every other square of a chessboard, of those that fit the picture.

    Returns:
      Bool, of that shape.
    """
    mask = np.zeros(shape, bool)
    rng = np.random.default_rng(seed)
    for row in range(shape[0] // size):
        for column in range(row % 2, shape[1] // size, 2):
            top, left = row * size, column * size
            mask[top : top + size, left : left + size] = drawn(kind, size, rng)
    return mask


def _square(size: int, rng: np.random.Generator) -> np.ndarray:
    side = int(rng.integers(size // 4, size // 2 + 1))
    top, left = rng.integers(0, size - side + 1, 2)
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def _strokes(size: int, rng: np.random.Generator) -> np.ndarray:
    """Three walks of four straight lines, a tenth of the side thick, within the picture."""
    canvas = Image.new("L", (size, size))
    pen = ImageDraw.Draw(canvas)
    thick = max(2, round(size / 10))
    for _ in range(3):
        points = [rng.uniform(0, size, 2)]
        for _ in range(4):
            turn = rng.uniform(0, 2 * np.pi)
            step = rng.uniform(0.1, 0.3) * size * np.array([np.cos(turn), np.sin(turn)])
            points.append(np.clip(points[-1] + step, 0, size - 1))
        pen.line([tuple(map(float, point)) for point in points], fill=255, width=thick)
        for across, down in points:  # Round joints and ends.
            radius = thick / 2
            pen.ellipse((across - radius, down - radius, across + radius, down + radius), fill=255)
    return np.asarray(canvas) > 0


def read_mask(path: str, shape: tuple[int, int]) -> np.ndarray:
    """A mask from a picture: what is brighter than mid-grey is to be filled.

    Args:
      path: of a picture, as large as the one to be filled.
      shape: (height, width) of that one.

    Returns:
      bool [height, width].

    Raises:
      InputError: for a file that cannot be read, of another size, or nowhere or everywhere bright.
    """
    picture = pj.images.read(path)
    if picture.shape[:2] != shape:
        height, width = picture.shape[:2]
        raise InputError(
            f"the mask {path} has {width}x{height} pixels, the picture {shape[1]}x{shape[0]}: "
            "they must be the same"
        )
    mask = picture.mean(axis=-1) > 127.5
    if mask.all() or not mask.any():
        what = "everywhere" if mask.all() else "nowhere"
        raise InputError(f"the mask {path} is bright {what}: white is to be filled, black is kept")
    return mask


def with_hole(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """What the network is given: uint8 [h, w, 4], the picture grey where masked, and the mask."""
    kept = np.where(mask[..., None], np.uint8(_GREY), picture)
    return np.concatenate([kept, np.uint8(255) * mask[..., None].astype(np.uint8)], axis=-1)
