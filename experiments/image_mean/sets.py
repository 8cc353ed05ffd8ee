"""The sets of images whose means are sought: views of pictures, and pieces of textures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import perceptual_jax as pj
from experiments.common.data import (
    EMBEDDED,
    TEXTURES,
    centre_square,
    embedded_picture,
    embedded_texture,
    variations,
)
from experiments.common.pictures import named_pictures
from experiments.image_mean.config import Config
from perceptual_jax.errors import InputError

__all__ = ["sets_of"]

_MOVED = "chelsea"
"""The embedded picture that is moved further and further."""


def sets_of(config: Config) -> dict[str, np.ndarray]:
    """The run's sets: `{name: float32 [images_per_set, size, size, 3] in [0, 1]}`.

    Raises:
      InputError: for a folder or file that is not there, cannot be read, holds no images or too
        few in a set, or is too small.
    """
    if config.kind == "shifts":
        return _shifts(config)
    if config.kind == "textures":
        return _textures(config)
    return _embedded_views(config) if config.data == "embedded" else _folders(config)


def _embedded_views(config: Config) -> dict[str, np.ndarray]:
    return {
        name: variations(
            embedded_picture(name),
            config.images_per_set,
            config.size,
            shift=config.shift,
            warp=config.warp,
            seed=config.seed + i,
        )
        for i, name in enumerate(_at_most(EMBEDDED, config.sets, "pictures"))
    }


def _folders(config: Config) -> dict[str, np.ndarray]:
    folder, count = _folder(config), config.images_per_set
    inner = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    found = {}
    for path in (inner or [folder])[: config.sets]:
        files = pj.images.find(path)
        if len(files) < count:
            raise InputError(
                f"{path} holds {len(files)} images, fewer than --images-per-set {count}"
            )
        pictures = [centre_square(pj.images.read(file), config.size) for file in files[:count]]
        found[path.resolve().name] = np.stack(pictures).astype(np.float32) / 255
    return found


def _textures(config: Config) -> dict[str, np.ndarray]:
    """Pieces of pictures, where they fall, at the pictures' own resolution."""
    if config.data == "embedded":
        names = _at_most(TEXTURES, config.sets, "textures")
        pictures = {name: embedded_texture(name) for name in names}
    else:
        files = pj.images.find(_folder(config))[: config.sets]
        pictures = {file.stem: pj.images.read(file) for file in files}
    rng = np.random.default_rng(config.seed)
    return {
        name: np.stack(
            [_piece(name, picture, config.size, rng) for _ in range(config.images_per_set)]
        )
        for name, picture in pictures.items()
    }


def _piece(name: str, picture: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    if min(height, width) <= size:
        raise InputError(
            f"{name} has {width}x{height} pixels, too few for pieces of --size {size}: give a "
            "smaller --size or a larger picture"
        )
    top, left = rng.integers(0, (height - size + 1, width - size + 1))
    return picture[top : top + size, left : left + size].astype(np.float32) / 255


def _shifts(config: Config) -> dict[str, np.ndarray]:
    """Views of one picture, all sets moved in the same directions and shown at the same scale."""
    name = _MOVED if config.data == "embedded" else config.data
    pictures = list(named_pictures("--data", [name], ()).values())
    if len(pictures) != 1:
        raise InputError(f"--kind shifts moves one picture; {name} holds {len(pictures)}")
    picture = centre_square(pictures[0], min(pictures[0].shape[:2]))
    return {
        f"moved by up to {shift:g} px": variations(
            picture,
            config.images_per_set,
            config.size,
            shift=shift,
            warp=0.0,
            seed=config.seed,
            margin=max(config.shifts),
        )
        for shift in config.shifts
    }


def _folder(config: Config) -> Path:
    folder = Path(config.data)
    if not folder.is_dir():
        raise InputError(f"--data must be 'embedded' or a folder; there is no folder {folder}")
    return folder


def _at_most(names: tuple[str, ...], count: int, what: str) -> tuple[str, ...]:
    if count > len(names):
        raise InputError(f"there are {len(names)} embedded {what}; got --sets {count}")
    return names[:count]
