"""What people said of images: which of two is nearer to a reference, or whether two are the same.

A data set is a list of judgements over images that are read when they are needed, so that a
million of them fit. Its sources: the folders of BAPPS, a manifest of your own, and a stand-in that
is drawn from photographs and needs no download.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage

import perceptual_jax as pj
from experiments.common.arrays import read_array
from experiments.common.data import EMBEDDED, bent, embedded_picture
from perceptual_jax.errors import InputError, shortened

__all__ = [
    "FOLDERS",
    "STAND_IN",
    "STAND_IN_NOTE",
    "WHERE_FROM",
    "Judgements",
    "Test",
    "bapps",
    "judgements",
    "pairs_of",
    "read_resized",
]

Test = Literal["2afc", "jnd"]
"""Two-alternative forced choice, of triplets; just noticeable differences, of pairs."""


@dataclasses.dataclass(frozen=True)
class Judgements:
    """What people said of images.

    Attributes:
      names: of the images, each once.
      read: `index of a name -> uint8 [h, w, 3]`.
      items: which images were shown: [t, 3], reference, first and second; or [t, 2].
      judge: the fraction of people who chose the second, or who saw no difference, [t].
      votes: how many people that were, [t]; None where it is not known.
      splits: the names of the parts of the data set.
      split: which of them an item belongs to, [t].
      human: whether people judged at all.
    """

    names: Sequence[str]
    read: Callable[[int], np.ndarray]
    items: np.ndarray
    judge: np.ndarray
    votes: np.ndarray | None
    splits: tuple[str, ...]
    split: np.ndarray
    human: bool = True


def judgements(
    data: str, test: Test, *, subset: str, per_distortion: int, size: int, seed: int
) -> Judgements:
    """Reads a data set's list; images are read later.

    Args:
      data: a CSV manifest, a folder of BAPPS, "tfds:bapps/val" (or train), or "embedded".
      test: which of the tests.
      subset: of BAPPS, "train" or "val".
      per_distortion: of the embedded stand-in: how many items for each distortion.
      size: of the embedded stand-in: the side of the images in pixels.
      seed: of the embedded stand-in.

    Raises:
      InputError: if there is no such data, or files are missing; all of them are counted.
    """
    if data == "embedded":
        return _stand_in(test, per_distortion, size, seed)
    if data.startswith("tfds:"):
        return _tfds(data.removeprefix("tfds:"), test)
    path = Path(data)
    if path.is_file():
        return _manifest(path, test)
    if path.is_dir():
        return bapps(path, test, subset)
    raise InputError(
        f"--data must be 'embedded', a CSV manifest or a folder; there is no {data}. {WHERE_FROM}"
    )


def read_resized(data: Judgements, size: int, index: int) -> np.ndarray:
    """An image of the data, resized by Pillow's bicubic filter: uint8 [size, size, 3]."""
    return pj.images.resize(data.read(index), size)


def pairs_of(items: np.ndarray) -> np.ndarray:
    """Triplets [t, 3] as two pairs each, with the reference: [2 t, 2]; pairs as they are."""
    return items if items.shape[1] == 2 else items[:, [0, 1, 0, 2]].reshape(-1, 2)


# --- BAPPS ---------------------------------------------------------------------------------

WHERE_FROM = (
    "BAPPS comes from the authors, by the scripts of github.com/richzhang/PerceptualSimilarity "
    "(2AFC train 5.3 GB, 2AFC val 1.1 GB, JND val 0.2 GB); unpack it to DATA/2afc/val/... and "
    "DATA/jnd/val/..."
)

FOLDERS: Mapping[Test, tuple[tuple[str, ...], str]] = {
    "2afc": (("ref", "p0", "p1"), "judge"),
    "jnd": (("p0", "p1"), "same"),
}
"""`{test: (folders of images, folder of judgements)}`."""


def bapps(folder: Path, test: Test, subset: str) -> Judgements:
    """Reads the authors' folders: all of a subset's, or one.

    Args:
      folder: the root, or any folder on the way to the images.
      test: which of the tests.
      subset: "train" or "val", where the folder holds both.

    Raises:
      InputError: if there are no such folders, or files are missing.
    """
    images, judged = FOLDERS[test]
    tops = [folder / test / subset, folder / subset, folder]
    found: list[Path] = []
    for top in tops:
        inside = (path.parent for path in sorted(top.glob(f"*/{judged}")))
        found = [top, *inside] if (top / judged).is_dir() else list(inside)
        if found:
            break
    if not found:
        wanted = ", ".join((*images, judged))
        raise InputError(f"{folder} holds no folders with {wanted} inside. {WHERE_FROM}")
    names: list[str] = []
    items, judge, splits, split, wrong = [], [], [], [], []
    for place, part in enumerate(found):
        splits.append(part.name)
        files = {kind: {file.stem: file for file in pj.images.find(part / kind)} for kind in images}
        votes = {file.stem: file for file in (part / judged).glob("*.npy")}
        for stem in sorted(set(votes).union(*files.values())):
            missing = [f"{part / kind / stem}.*" for kind in images if stem not in files[kind]]
            if stem not in votes:
                missing.append(str(part / judged / f"{stem}.npy"))
            if missing:
                wrong += missing
                continue
            items.append(range(len(names), len(names) + len(images)))
            names += [str(files[kind][stem]) for kind in images]
            judge.append(_vote(votes[stem]))
            split.append(place)
    _complain(wrong, "is missing", "are missing")
    if not items:
        raise InputError(f"{folder} holds no judgements")
    return Judgements(
        names=names,
        read=lambda index: pj.images.read(names[index]),
        items=np.asarray([list(item) for item in items], np.int32),
        judge=np.asarray(judge),
        votes=None,
        splits=tuple(splits),
        split=np.asarray(split, np.int32),
    )


def _vote(file: Path) -> float:
    found = read_array(file, "a judgement", "replace it, or take its images out of the data")
    if found.size == 0 or found.dtype.kind not in "biuf":
        raise InputError(f"{file} must hold a number from 0 to 1; got {found.dtype} {found.shape}")
    value = float(found.reshape(-1)[0])
    if not 0 <= value <= 1:
        raise InputError(f"{file} must hold a number from 0 to 1; got {value:g}")
    return value


def _complain(
    wrong: Sequence[str],
    one: str,
    many: str,
    remedy: str = "complete the data, or take out the other images of the same judgements",
) -> None:
    if wrong:
        shown = ", ".join(wrong[:10])
        more = f" and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise InputError(
            f"{shown}{more} {one if len(wrong) == 1 else many}; nothing was scored: {remedy}"
        )


def _tfds(data: str, test: Test) -> Judgements:
    try:
        from experiments.common import bapps_tfds
    except ModuleNotFoundError as error:
        raise InputError(
            f"tfds:{data} needs the package {error.name}: pip install 'perceptual-jax[tfds]'"
        ) from None
    return bapps_tfds.read(data, test)


# --- A manifest ----------------------------------------------------------------------------

_COLUMNS: Mapping[Test, Sequence[tuple[str, ...]]] = {
    "2afc": (("ref", "p0", "p1"), ("head", "close", "far")),
    "jnd": (("p0", "p1"),),
}
"""The columns of a manifest that name images."""


def _manifest(path: Path, test: Test) -> Judgements:
    """A CSV file with a header; names of images are relative to its folder, and stay inside of it.

    A list may come from anybody, with names that lead elsewhere (`../x`, `/etc/x`, or a link that
    came with it): those are refused.

    2AFC: ref, p0, p1, judge (the fraction of people who chose p1); or head, close, far, where
    close was chosen. JND: p0, p1, same. Both may also have votes (how many people) and split, and
    columns of other names, which are ignored: not those that are nearly one of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from None
    try:
        rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        header = tuple(rows.fieldnames or ())
        listed = [(rows.line_num, row) for row in rows]
    except csv.Error as error:
        raise InputError(f"{path} is not CSV: {error}") from None
    chosen = next((each for each in _COLUMNS[test] if set(each) <= set(header)), None)
    judged = FOLDERS[test][1]
    _check_spelling(path, header, (*sum(_COLUMNS[test], ()), judged, "votes", "split"))
    if chosen is None or (judged not in header and chosen != ("head", "close", "far")):
        raise InputError(
            f"{path} must begin with a line of names, among them "
            f"{', '.join((*_COLUMNS[test][0], judged))}; "
            f"got {shortened(', '.join(header)) or 'nothing'}{_separated(header)}"
        )
    index: dict[str, int] = {}
    lines: dict[str, int] = {}
    splits: dict[str, int] = {}
    items, judge, votes, split = [], [], [], []
    for number, row in listed:
        if None in row or None in row.values():
            count = len(header) + len(row.get(None, ())) - list(row.values()).count(None)
            raise InputError(f"{path}, line {number}: has {count} values, must have {len(header)}")
        items.append([index.setdefault(row[column], len(index)) for column in chosen])
        for column in chosen:
            lines.setdefault(row[column], number)
        judge.append(_number(path, number, row, judged, 0, 1) if judged in header else 0.0)
        votes.append(_number(path, number, row, "votes", 1, 1e9) if "votes" in header else 1.0)
        split.append(splits.setdefault(row.get("split", "all"), len(splits)))
    if not items:
        raise InputError(f"{path} holds no lines but its header")
    if "all" in splits and len(splits) > 1:
        raise InputError(f"{path} has a split 'all', as all of them together are called: rename it")
    names = [_inside(path, name) for name in index]
    # Path's own question raises for names that no file can have.
    missing = [
        f"{shortened(name)} (line {lines[given]})"
        for given, name in zip(index, names, strict=True)
        if not os.path.isfile(name)  # noqa: PTH113
    ]
    remedy = "put what is missing there, or take the lines out that name it"
    _complain(missing, "is missing", "are missing", remedy)
    return Judgements(
        names=names,
        read=lambda index: pj.images.read(names[index]),
        items=np.asarray(items, np.int32),
        judge=np.asarray(judge),
        votes=np.asarray(votes) if "votes" in header else None,
        splits=tuple(splits),
        split=np.asarray(split, np.int32),
    )


def _separated(header: Sequence[str]) -> str:
    """What to say of a header that is one name, with another separator in it."""
    for mark, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            return f": names and values must be separated by commas, not by {called}"
    return ""


def _check_spelling(path: Path, header: Sequence[str], known: Sequence[str]) -> None:
    """Refuses columns that would be ignored for one letter."""
    absent = [name for name in known if name not in header]
    for column in header:
        # "vote" is 0.89 of "votes"; "notes", which a list may well have, 0.8.
        near = difflib.get_close_matches(column[:100].lower(), absent, n=1, cutoff=0.85)
        if near and column not in known:
            raise InputError(
                f"{path} has a column {shortened(column)!r}, which is nearly {near[0]!r}: "
                "name it so, or take it out"
            )


def _inside(manifest: Path, name: str) -> str:
    """The file that a manifest names, if it is in the manifest's folder, links followed."""
    folder = manifest.parent
    try:
        inside = (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # A name that no file can have, or links in a ring.
        inside = True
    if Path(name).is_absolute() or not inside:
        raise InputError(
            f"{manifest} names {shortened(name)!r}, which is outside of its folder: "
            "move the list to a folder that holds all of its images"
        )
    return str(folder / name)


def _number(
    path: Path, line: int, row: Mapping[str, str], column: str, least: float, most: float
) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        meaning = f" ({_MEANING[column]})" if column in _MEANING else ""
        raise InputError(
            f"{path}, line {line}: {column} must be from {least:g} to {most:g}{meaning}; "
            f"got {shortened(row[column])!r}"
        )
    return value


_MEANING = {
    "judge": "the fraction of people who chose p1",
    "same": "the fraction of people who saw no difference",
}


# --- A stand-in ----------------------------------------------------------------------------

Distort = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""`(canvas float [h, w, 3] in [0, 1], strength in [0, 1], draws) -> canvas`."""


def _blurred(canvas: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    del rng
    sigma = 0.3 + 2.7 * strength
    return ndimage.gaussian_filter(canvas, (sigma, sigma, 0), mode="nearest")


def _noisy(canvas: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return canvas + (0.01 + 0.19 * strength) * rng.normal(size=canvas.shape)


def _compressed(canvas: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    del rng
    buffer = io.BytesIO()
    Image.fromarray(pj.images.to_uint8(canvas)).save(
        buffer, "JPEG", quality=int(60 - 57 * strength)
    )
    return np.asarray(Image.open(buffer), np.float64) / 255


def _moved(canvas: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    angle, length = rng.uniform(0, 2 * np.pi), 0.5 + 7.5 * strength
    offset = (length * np.sin(angle), length * np.cos(angle), 0)
    return ndimage.shift(canvas, offset, order=3, mode="nearest")


def _coloured(canvas: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    direction = rng.normal(size=3)
    return canvas + (0.02 + 0.28 * strength) * direction / np.linalg.norm(direction)


def _warped(canvas: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return bent(canvas, rng.uniform(-1, 1, (2, 6, 6)) * (1 + 9 * strength))


STAND_IN_NOTE = (
    "This is not human data. The triplets are drawn: a photograph, the same distorted, and "
    "distorted more; the right answer is known by how they were made, and nobody was asked."
)

STAND_IN: Mapping[str, Distort] = {
    "blur": _blurred,
    "noise": _noisy,
    "jpeg": _compressed,
    "shift": _moved,
    "colour": _coloured,
    "warp": _warped,
}
"""`{name: distortion}` of the stand-in's splits."""

_MARGIN = 16
_PER_REFERENCE = 5


def _stand_in(test: Test, per_distortion: int, size: int, seed: int) -> Judgements:
    """Items whose right answer is known by how they were made; no person was asked.

    2AFC: a piece of a photograph, the same distorted, and distorted more. JND: a piece and itself
    or itself distorted; a weak distortion stands for one that some people do not see.
    """
    names: list[str] = []
    recipes: list[tuple[int, str | None, float, int]] = []

    def image(reference: int, distortion: str | None, strength: float, draw: int) -> int:
        names.append(f"{reference}-{distortion or 'reference'}-{strength:.2f}")
        recipes.append((reference, distortion, strength, draw))
        return len(recipes) - 1

    rng = np.random.default_rng([seed, 1])
    items, judge, split = [], [], []
    for place, distortion in enumerate(STAND_IN):
        for number in range(per_distortion):
            reference = number // _PER_REFERENCE + place * 1_000_000
            if number % _PER_REFERENCE == 0:
                untouched = image(reference, None, 0.0, 0)
            strong = rng.uniform(0.2, 1)
            weak = strong * rng.uniform(0.5, 0.9)
            more = image(reference, distortion, strong, 2 * number)
            if test == "jnd":
                items.append([untouched, more])
                judge.append(float(np.clip(1 - 1.5 * strong, 0, 1)))
            else:
                less = image(reference, distortion, weak, 2 * number + 1)
                first = rng.random() < 0.5
                items.append([untouched, less, more] if first else [untouched, more, less])
                judge.append(0.0 if first else 1.0)
            split.append(place)

    @cache
    def picture(name: str) -> np.ndarray:
        return pj.images.resize(embedded_picture(name), 4 * size)

    def read(index: int) -> np.ndarray:
        reference, distortion, strength, draw = recipes[index]
        place = np.random.default_rng([seed, 2, reference])
        whole = picture(EMBEDDED[place.integers(len(EMBEDDED))])
        side = size + 2 * _MARGIN
        top, left = place.integers(0, whole.shape[0] - side + 1, 2)
        canvas = whole[top : top + side, left : left + side].astype(np.float64) / 255
        if distortion is not None:
            draws = np.random.default_rng([seed, 3, reference, draw])
            canvas = STAND_IN[distortion](canvas, strength, draws)
        return pj.images.to_uint8(canvas[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])

    return Judgements(
        names=names,
        read=read,
        items=np.asarray(items, np.int32),
        judge=np.asarray(judge),
        votes=None,
        splits=tuple(STAND_IN),
        split=np.asarray(split, np.int32),
        human=False,
    )
