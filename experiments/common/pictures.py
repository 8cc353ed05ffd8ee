"""Pictures by name, file or folder, at their own aspect, and sheets of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import perceptual_jax as pj
from experiments.common.data import EMBEDDED, embedded_picture
from experiments.common.paintings import PAINTINGS
from perceptual_jax.errors import InputError

__all__ = ["fitted", "named_pictures", "sheet"]


def named_pictures(
    flag: str, given: Sequence[str], embedded: Sequence[str]
) -> dict[str, np.ndarray]:
    """Reads pictures.

    Args:
      flag: the option they were given with, for messages.
      given: names of embedded pictures, image files, folders of them, or "embedded".
      embedded: the names that "embedded" stands for.

    Returns:
      `{name: uint8 [h, w, 3]}`, in the order given.

    Raises:
      InputError: for what is none of these, or comes twice.
    """
    found: dict[str, np.ndarray] = {}
    for text in given:
        for name, picture in _pictures(flag, text, embedded).items():
            if name in found:
                raise InputError(f"{flag} names {name!r} twice: rename one of the files")
            found[name] = picture
    if not found:
        raise InputError(f"{flag} must name at least one picture")
    return found


def _pictures(flag: str, text: str, embedded: Sequence[str]) -> dict[str, np.ndarray]:
    path = Path(text)
    if text == "embedded":
        return {name: _embedded(name) for name in embedded}
    if path.is_dir():
        return {file.stem: pj.images.read(file) for file in pj.images.find(path)}
    if text in EMBEDDED or text in PAINTINGS:
        return {text: _embedded(text)}
    if not path.is_file():
        names = ", ".join((*EMBEDDED, *PAINTINGS))
        raise InputError(f"{flag}: there is no file or folder {text}; embedded are {names}")
    return {path.stem: pj.images.read(path)}


def _embedded(name: str) -> np.ndarray:
    return PAINTINGS[name]() if name in PAINTINGS else embedded_picture(name)


def fitted(picture: np.ndarray, side: int) -> tuple[int, int]:
    """(height, width) at the picture's aspect, the longer of them `side`."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    return max(round(height * side / longer), 1), max(round(width * side / longer), 1)


def sheet(rows: Sequence[Sequence[np.ndarray | None]], cell: int) -> np.ndarray:
    """Lays pictures of any sizes and aspects on white, each in the middle of a square cell.

    Args:
      rows: of pictures [h, w, 3], uint8 or floats in [0, 1]; None leaves a cell empty.
      cell: the side of a cell, in pixels, which the longer side of a picture fills.

    Returns:
      uint8 [H, W, 3].
    """
    return pj.images.grid([[_in_cell(picture, cell) for picture in row] for row in rows], gap=6)


def _in_cell(picture: np.ndarray | None, cell: int) -> np.ndarray:
    canvas = np.full((cell, cell, 3), 255, np.uint8)
    if picture is not None:
        small = pj.images.resize(pj.images.to_uint8(picture), fitted(picture, cell))
        top, left = (cell - small.shape[0]) // 2, (cell - small.shape[1]) // 2
        canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas
