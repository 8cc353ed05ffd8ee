"""Pictures to learn from and others held out: in memory, or in a file where they do not fit.

Which side a picture is on is decided by its name alone. A run remembers what it learned from, and
is not resumed with anything else.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np

import perceptual_jax as pj
from experiments.common.data import EMBEDDED, centre_square, embedded_picture, variations
from experiments.common.progress import Advance, console, progress
from experiments.common.run_folder import RunFolder
from perceptual_jax._files import whole_file
from perceptual_jax.errors import InputError

__all__ = ["Pictures", "forget_cache", "learned_and_held_out"]

_CACHE = "images.npy"
_WORTH_A_BAR = 2000
"""Of so many pictures and more it is shown how far reading them is."""


class Pictures(NamedTuple):
    """Pictures of one size.

    Attributes:
      names: of the files; of embedded pictures' views, what they are of.
      images: uint8 [n, size, size, 3]; of those that do not fit into memory, a file's.
    """

    names: list[str]
    images: np.ndarray


class _Found(NamedTuple):
    """Pictures that are not read yet.

    Attributes:
      names: all different.
      sizes: of the files, in bytes, as they are when it is called; 0 where they are no files.
      read: a picture, uint8 [h, w, 3], by its place among the names.
    """

    names: list[str]
    sizes: Callable[[], list[int]]
    read: Callable[[int], np.ndarray]


def learned_and_held_out(
    data: str,
    *,
    size: int,
    count: int,
    held_out: float,
    seed: int,
    memory: float = 4.0,
    folder: RunFolder | None = None,
) -> tuple[Pictures, Pictures]:
    """Pictures to learn from, and others to judge by what was learned.

    Which is which is decided by each file's name alone: adding files moves none to the other side.

    Args:
      data: "embedded", for views of the embedded pictures, moved and bent by up to an eighth of
        their side, every other one mirrored; a folder of images, of which the middle squares are
        taken; or "tfds:name/split", likewise of a prepared TensorFlow data set.
      size: their side, in pixels.
      count: how many at most, the first by name; of embedded pictures, how many to draw.
      held_out: the fraction held out, about.
      seed: of the embedded pictures' views.
      memory: how many GiB those to learn from may take in memory. More are read once, into a file
        in the run's folder, from which batches are then taken.
      folder: the run's, which remembers what the pictures were.

    Returns:
      (learned from, held out).

    Raises:
      InputError: for data that are not there or hold no images, if either part is empty, if a
        resumed run finds other pictures than it began with, or if the file cannot be written.
    """
    found = _found(data, count, size, seed)
    held = np.array([_fraction_of(name) < held_out for name in found.names])
    if held.all() or not held.any():
        raise InputError(
            f"of {len(held)} pictures {held.sum()} are held out: both parts need some; "
            "give more pictures or change --held-out"
        )
    learned, kept = np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()
    sums: dict[int, int] = {}
    sizes = found.sizes()

    def read(place: int) -> np.ndarray:
        image = centre_square(found.read(place), size)
        sums[place] = zlib.crc32(image.tobytes())
        return image

    if folder is not None:
        # Before much is read in vain.
        folder.same_data(_known(found.names, sizes, sums), write=False)
    large = len(learned) * size * size * 3 > memory * 2**30
    if large and folder is not None:
        images = _cached(learned, size, read, folder)
    else:
        images = _read_all(learned, size, read)
    others = _read_all(kept, size, read)
    pairs = zip(found.names, sizes, found.sizes(), strict=True)
    for name in (name for name, before, after in pairs if before != after):
        raise InputError(f"{name} was changed while the pictures were read: start again")
    if folder is not None:
        folder.same_data(_known(found.names, sizes, sums))
    names = found.names
    return (
        Pictures([names[place] for place in learned], images),
        Pictures([names[place] for place in kept], others),
    )


def _known(
    names: Sequence[str], sizes: Sequence[int], sums: Mapping[int, int]
) -> dict[str, dict[str, int | None]]:
    """Of every picture: how long its file is, and a sum of its pixels where it was read."""
    files = enumerate(zip(names, sizes, strict=True))
    return {name: {"bytes": length, "pixels": sums.get(i)} for i, (name, length) in files}


def forget_cache(folder: RunFolder) -> None:
    """Removes the file of images from a run's folder, if it has one: what is done needs none."""
    (folder.path / _CACHE).unlink(missing_ok=True)


# --- Where they are ------------------------------------------------------------------------


def _found(data: str, count: int, size: int, seed: int) -> _Found:
    if data == "embedded":
        names, views = _embedded_views(count, size, seed)
        return _Found(names, lambda: [0] * len(names), views.__getitem__)
    if data.startswith("tfds:"):
        return _tfds(data.removeprefix("tfds:"), count)
    if not Path(data).is_dir():
        raise InputError(
            f"--data must be 'embedded', a folder or 'tfds:name/split'; there is no folder {data}"
        )
    files = pj.images.find(data)[:count]
    return _Found(
        [file.name for file in files],
        lambda: [file.stat().st_size for file in files],
        lambda place: pj.images.read(files[place]),
    )


def _tfds(data: str, count: int) -> _Found:
    try:
        from experiments.common import tfds_images
    except ModuleNotFoundError as error:
        raise InputError(
            f"tfds:{data} needs the package {error.name}: pip install 'perceptual-jax[tfds]'"
        ) from None
    length, read = tfds_images.opened(data)
    names = [str(number) for number in range(min(length, count))]
    return _Found(names, lambda: [0] * len(names), read)


def _embedded_views(count: int, size: int, seed: int) -> tuple[list[str], np.ndarray]:
    names, views = [], []
    for i, name in enumerate(EMBEDDED):
        share = len(range(i, count, len(EMBEDDED)))
        if share == 0:
            continue
        drawn = variations(
            embedded_picture(name), share, size, shift=size / 8, warp=size / 16, seed=seed + i
        )
        drawn[1::2] = drawn[1::2, :, ::-1]
        names += [f"{name} {k + 1}" for k in range(share)]
        views.append(pj.images.to_uint8(drawn))
    # In turns, so that the first few are of all of them.
    order = sorted(range(count), key=lambda i: int(names[i].split()[1]))
    return [names[i] for i in order], np.concatenate(views)[order]


# --- Reading them --------------------------------------------------------------------------


def _read_all(places: Sequence[int], size: int, read: Callable[[int], np.ndarray]) -> np.ndarray:
    images = np.empty((len(places), size, size, 3), np.uint8)
    with _reading(len(places)) as advance:
        for row, place in enumerate(places):
            images[row] = read(place)
            advance()
    return images


def _reading(count: int) -> AbstractContextManager[Advance]:
    if count < _WORTH_A_BAR:
        return nullcontext(lambda count=1: None)
    return progress("reading images", count, unit="images")


def _cached(
    places: Sequence[int], size: int, read: Callable[[int], np.ndarray], folder: RunFolder
) -> np.ndarray:
    """The pictures as a file in the run's folder, which is there whole or not at all."""
    path, shape = folder.path / _CACHE, (len(places), size, size, 3)
    if not path.exists():
        console.print(
            f"{math.prod(shape) / 2**30:.1f} GiB of images, more than --memory: to {path}"
        )
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with (
            folder.writing("the file of images", "nothing was learned yet"),
            whole_file(path) as file,
            _reading(len(places)) as advance,
        ):
            np.lib.format.write_array_header_1_0(file, header)
            for place in places:
                file.write(read(place).tobytes())
                advance()
    try:
        images = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): delete it, and it is made anew"
        ) from None
    if images.shape != shape or images.dtype != np.uint8:
        raise InputError(
            f"{path} holds other images than the run's: delete it, and it is made anew"
        )
    return np.asarray(images)


def _fraction_of(name: str) -> float:
    """A number in [0, 1) that is the name's own."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
