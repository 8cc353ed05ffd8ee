"""Pictures for the experiments: real ones that need no download, and the user's folders."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

import perceptual_jax as pj
from perceptual_jax.errors import InputError

__all__ = [
    "EMBEDDED",
    "TEXTURES",
    "Labelled",
    "bent",
    "centre_square",
    "embedded_files",
    "embedded_photographs",
    "embedded_picture",
    "embedded_texture",
    "labelled_images",
    "named_picture",
    "variations",
]

# Name -> (file inside scikit-image, square crop: top, left, side), each of a whole object.
_FILES: Mapping[str, tuple[str, tuple[int, int, int]]] = {
    "astronaut": ("astronaut.png", (0, 90, 280)),
    "chelsea": ("chelsea.png", (20, 95, 260)),
    "coffee": ("coffee.png", (20, 140, 370)),
    "rocket": ("rocket.jpg", (60, 190, 330)),
    "motorcycle": ("motorcycle_left.png", (80, 180, 400)),
}
EMBEDDED = tuple(_FILES)
"""The names of the embedded pictures; all are in the public domain or CC0."""
TEXTURES = ("brick", "grass", "gravel")
"""The names of the embedded textures; all are CC0."""

# Others without one object in the middle of them: textures, and views through instruments.
_OTHER_FILES = (
    *("brick.png", "camera.png", "coins.png", "grass.png", "gravel.png"),
    *("hubble_deep_field.jpg", "ihc.png", "moon.png", "page.png", "retina.jpg"),
)


def embedded_picture(name: str) -> np.ndarray:
    """A square photograph from the installed scikit-image package: uint8 [side, side, 3].

    Raises:
      InputError: if scikit-image is not installed.
    """
    file, (top, left, side) = _FILES[name]
    picture = pj.images.read(_inside_scikit_image(file))
    return picture[top : top + side, left : left + side]


def embedded_texture(name: str) -> np.ndarray:
    """A photograph of a texture from the installed scikit-image package: uint8 [512, 512, 3].

    Raises:
      InputError: if scikit-image is not installed.
    """
    return pj.images.read(_inside_scikit_image(f"{name}.png"))


def embedded_photographs(size: int) -> dict[str, np.ndarray]:
    """All embedded pictures, textures and scientific ones too: `{name: uint8 [size, size, 3]}`.

    Raises:
      InputError: if scikit-image is not installed.
    """
    objects = {name: pj.images.resize(embedded_picture(name), size) for name in EMBEDDED}
    others = {
        Path(file).stem: centre_square(pj.images.read(_inside_scikit_image(file)), size)
        for file in _OTHER_FILES
    }
    return objects | others


def embedded_files() -> dict[str, Path]:
    """The files of all embedded pictures, as large as they are: `{name: file}`.

    Raises:
      InputError: if scikit-image is not installed.
    """
    objects = {name: file for name, (file, _) in _FILES.items()}
    others = {Path(file).stem: file for file in _OTHER_FILES}
    return {name: _inside_scikit_image(file) for name, file in (objects | others).items()}


def _inside_scikit_image(file: str) -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the embedded pictures come inside scikit-image: "
            "pip install 'perceptual-jax[experiments]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data" / file


def variations(
    picture: np.ndarray,
    count: int,
    size: int,
    *,
    shift: float,
    warp: float,
    seed: int,
    margin: float = 0.0,
) -> np.ndarray:
    """Views of one picture: shifted and gently warped.

    Args:
      picture: uint8 [side, side, 3].
      count: how many.
      size: their side, in pixels.
      shift: each view is moved by up to this many pixels, down and across.
      warp: and bent by a smooth random field of up to this many pixels.
      seed: of the random draws.
      margin: how many pixels there are around the middle of the picture, at least; the same for
        all shows them at the same scale.

    Returns:
      float32 [count, size, size, 3] in [0, 1].
    """
    around = int(np.ceil(max(shift + warp, margin))) + 2
    canvas = pj.images.resize(picture, size + 2 * around).astype(np.float64) / 255
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size] + float(around)
    views = []
    for _ in range(count):
        down, across = rng.uniform(-shift, shift, 2)
        # A 4x4 field of offsets, interpolated: every part moves, none tears.
        field = rng.uniform(-warp, warp, (2, 4, 4))
        view = _looked_up(canvas, rows + down, columns + across, field)
        views.append(np.clip(view, 0, 1))
    return np.stack(views).astype(np.float32)


def bent(picture: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A picture with every part of it moved: smooth, so that none tears.

    Args:
      picture: floats [side, side, c].
      field: how far, down and across, in pixels, on a grid over the picture: [2, k, k].
    """
    rows, columns = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(float)
    return _looked_up(picture, rows, columns, field)


def _looked_up(
    picture: np.ndarray, rows: np.ndarray, columns: np.ndarray, field: np.ndarray
) -> np.ndarray:
    """The picture at the places [side, side] that rows and columns name, displaced by the field."""
    down, across = (
        ndimage.zoom(offsets, len(rows) / len(offsets), order=3, mode="nearest")
        for offsets in field
    )
    places = [rows + down, columns + across]
    channels = [
        ndimage.map_coordinates(picture[..., c], places, order=3, mode="nearest")
        for c in range(picture.shape[2])
    ]
    return np.stack(channels, axis=-1)


def centre_square(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a uint8 picture, resized: [size, size, 3]."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pj.images.resize(picture[top : top + side, left : left + side], size)


def named_picture(flag: str, name: str, size: int) -> np.ndarray:
    """The centre square of an embedded picture or of a file: float32 [size, size, 3] in [0, 1].

    Args:
      flag: the option that names it, for errors.
      name: of an embedded picture, or a file.
      size: its side, in pixels.

    Raises:
      InputError: for a file that is not there or cannot be read.
    """
    if name not in EMBEDDED and not Path(name).exists():
        raise InputError(
            f"{flag} must be a file or one of {', '.join(EMBEDDED)}; there is no file {name}"
        )
    picture = embedded_picture(name) if name in EMBEDDED else pj.images.read(name)
    return centre_square(picture, size).astype(np.float32) / 255


class Labelled(NamedTuple):
    """Images and what they are of.

    Attributes:
      images: uint8 [n, size, size, 3].
      files: where each comes from.
      labels: of each image, as a place among the names, [n].
      names: of the labels; one name where nothing is known.
    """

    images: np.ndarray
    files: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]


def labelled_images(data: str, size: int) -> Labelled:
    """Images with labels.

    Args:
      data: "embedded", for 100 faces and 100 pictures of no face, grey and of 25 pixels, from the
        installed scikit-image package (of Labeled Faces in the Wild); a folder of folders, whose
        names are the labels; or a folder of images, which have none.
      size: their side, in pixels; the middle square is resized by Pillow's bicubic filter.

    Raises:
      InputError: for a folder that is not there or holds no images.
    """
    if data == "embedded":
        grey = np.load(_inside_scikit_image("lfw_subset.npy"), allow_pickle=False)
        pictures = np.repeat(pj.images.to_uint8(grey)[..., None], 3, axis=-1)
        labels = np.repeat([0, 1], len(pictures) // 2)
        files = [f"lfw_subset.npy[{number}]" for number in range(len(pictures))]
        resized = [pj.images.resize(picture, size) for picture in pictures]
        return Labelled(np.stack(resized), tuple(files), labels, ("face", "no face"))
    folder = Path(data)
    if not folder.is_dir():
        raise InputError(f"--data must be 'embedded' or a folder; there is no folder {data}")
    inner = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    found = [(path, file) for path in inner or [folder] for file in pj.images.find(path)]
    names = tuple(path.name for path in inner or [folder.resolve()])
    place = {path: number for number, path in enumerate(inner or [folder])}
    return Labelled(
        np.stack([centre_square(pj.images.read(file), size) for _, file in found]),
        tuple(str(file.relative_to(folder)) for _, file in found),
        np.asarray([place[path] for path, _ in found]),
        names,
    )
