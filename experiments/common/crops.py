"""Pictures to learn from, in crops, and others to judge by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import perceptual_jax as pj
from experiments.common.data import embedded_files, embedded_picture
from experiments.common.pictures import named_pictures
from perceptual_jax.errors import InputError

__all__ = ["Crops", "learned_from", "pictures_to_judge", "sizes_of"]

_TESTED = ("chelsea", "coffee")
_TEST_SIDE = 256
_KEPT_BYTES = 2 * 2**30
"""How much of the pictures is kept in memory; others are read again whenever they are used."""


def learned_from(data: str, side: int) -> list[Path]:
    """The pictures that have crops of that side.

    Args:
      data: "embedded", or a folder, with its folders.
      side: in pixels.

    Raises:
      InputError: if there is no such folder, or no picture in it is large enough.
    """
    if data == "embedded":
        files = [path for name, path in embedded_files().items() if name not in _TESTED]
    elif Path(data).is_dir():
        inner = (
            path for path in Path(data).rglob("*") if path.suffix.lower() in pj.images.SUFFIXES
        )
        files = sorted(path for path in inner if path.is_file() and not path.name.startswith("."))
    else:
        raise InputError(f"--data must be 'embedded' or a folder; there is no folder {data}")
    large = [path for path in files if _shorter_side(path) >= side]
    if not large:
        raise InputError(
            f"--data {data} holds {len(files)} pictures, none of them with sides of at least "
            f"{side} pixels: give larger ones or a smaller --crop"
        )
    return large


def sizes_of(files: list[Path], data: str) -> dict[str, dict[str, int]]:
    """What a run remembers of the pictures that `learned_from` found: `{file: its bytes}`."""
    top = None if data == "embedded" else data
    names = [str(path.relative_to(top)) if top else path.name for path in files]
    return {name: {"bytes": path.stat().st_size} for name, path in zip(names, files, strict=True)}


def _shorter_side(path: Path) -> int:
    try:
        with Image.open(path) as picture:
            return min(picture.size)
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: replace or remove it") from error


def pictures_to_judge(test: tuple[str, ...], multiple: int) -> dict[str, dict[str, np.ndarray]]:
    """The pictures to judge by: `{set: {name: uint8 [h, w, 3]}}`.

    Args:
      test: folders, each a set of its name; or "embedded".
      multiple: of which their sides are made multiples; the last rows and columns are left out.

    Raises:
      InputError: for what is neither, or comes twice.
    """
    sets = {}
    for text in test:
        if text == "embedded":
            pictures = {name: embedded_picture(name)[:_TEST_SIDE, :_TEST_SIDE] for name in _TESTED}
        elif Path(text).is_dir():
            pictures = named_pictures("--test", [text], ())
        else:
            raise InputError(f"--test must be 'embedded' or folders; there is no folder {text}")
        name = text if text == "embedded" else Path(text).resolve().name
        if name in sets:
            raise InputError(f"--test names {name!r} twice: rename one of the folders")
        sets[name] = {each: _whole_blocks(picture, multiple) for each, picture in pictures.items()}
        least = min(min(picture.shape[:2]) for picture in sets[name].values())
        if least < 64:
            raise InputError(
                f"--test {text} holds pictures with sides below 64 pixels: take others"
            )
    if not sets:
        raise InputError("--test must name at least one folder, or 'embedded'")
    return sets


class Crops:
    """Square crops of pictures, turned and mirrored, all as the random generator says."""

    def __init__(self, files: list[Path]):
        """Crops of these pictures, which are read when they are first needed."""
        self._files, self._kept, self._bytes = files, dict[Path, np.ndarray](), 0

    def draw(self, side: int, rng: np.random.Generator) -> np.ndarray:
        """uint8 [side, side, 3], of a picture and at a place where it happens to be."""
        path = self._files[rng.integers(len(self._files))]
        picture = self._read(path)
        if min(picture.shape[:2]) < side:
            raise InputError(f"{path} was changed to one with sides below {side}: put it back")
        top, left = (rng.integers(length - side + 1) for length in picture.shape[:2])
        image = picture[top : top + side, left : left + side]
        down, across, turned = rng.integers(2, size=3)
        image = image[:: -1 if down else 1, :: -1 if across else 1]
        return np.ascontiguousarray(image.transpose(1, 0, 2) if turned else image)

    def _read(self, path: Path) -> np.ndarray:
        if path in self._kept:
            return self._kept[path]
        picture = pj.images.read(path)
        if self._bytes + picture.nbytes <= _KEPT_BYTES:
            self._kept[path] = picture
            self._bytes += picture.nbytes
        return picture


def _whole_blocks(picture: np.ndarray, multiple: int) -> np.ndarray:
    height, width = (side // multiple * multiple for side in picture.shape[:2])
    return picture[:height, :width]
