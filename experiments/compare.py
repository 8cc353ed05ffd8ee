"""Distances between two images, or between two folders of images, paired by name.

    perceptual-jax compare a.png b.png --distances lpips-alex lpips-vgg ssim l2
    perceptual-jax compare truth/ mine/ --map

Smaller is nearer, for all of them. l1 and l2 are of pixels in [-1, 1]: PSNR is 10 log10(4 / l2).
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro
from rich.table import Table

import perceptual_jax as pj
from experiments.common.data import centre_square
from experiments.common.groups import grouped
from experiments.common.progress import console, progress
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name, start
from perceptual_jax._files import write_whole
from perceptual_jax._typing import Array, ImageLike, Params
from perceptual_jax.errors import InputError, positive_integer

__all__ = ["PRESETS", "Config", "Score", "brightest", "heat", "run", "scorer"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax compare`."""

    a: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A", help_behavior_hint="")]
    """An image, or a folder of images."""
    b: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B", help_behavior_hint="")]
    """An image, or a folder of images of the same names (their endings may differ)."""
    distances: tuple[str, ...] = ("lpips-alex", "lpips-vgg", "ssim", "l2")
    """Distances of the catalogue, as names, as calls: "vgg16(metric='l2')", or as sums of them:
    "l1 + 0.1 * lpips-vgg"."""
    map: bool = False
    """Also write pictures of where the images differ, for every distance that has a map."""
    size: int | None = None
    """Take the centre square of every image, resized to this side; by default nothing is."""
    multiple: int = 1
    """Crop every image about its centre to sides that are multiples of this. A program is compiled
    for every size of images: of a folder with hundreds of sizes, 64 leaves a few."""
    background: tuple[int, int, int] | None = None
    """Red, green and blue (0 to 255) to lay transparent images on; by default they are refused."""
    csv: str | None = None
    """Also write the table to this CSV file."""
    json: str | None = None
    """Also write the table to this JSON file."""
    seed: int = 0
    """Of the networks with random weights."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""


PRESETS = {"default": Config(a="", b="")}

_PICTURED = 20
_MANY_SIZES = 8

_Pictures = dict[str, list[tuple[np.ndarray, str]]]
"""`{pair: [(image, caption), ...]}`."""


Score = Callable[[ImageLike, ImageLike], dict[str, Array]]
"""`(x, y) -> {distance: [n]}`."""


def scorer(distances: Sequence[pj.Distance], seed: int) -> tuple[Params, Score]:
    """Distances as programs, those on one network as one.

    Returns:
      The params of all, and what scores.
    """
    params, groups = grouped(distances, seed)

    @partial(jax.jit, static_argnums=0)
    def values(group: int, params: Params, x: ImageLike, y: ImageLike) -> Any:
        return {distance.name: distance(params, x, y) for distance in groups[group]}

    def score(x: ImageLike, y: ImageLike) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for group in range(len(groups)):
            found |= values(group, params, x, y)
        return found

    return params, score


def run(config: Config) -> dict[str, dict[str, float]]:
    """Compares the images, prints the table, and writes the run's folder.

    Returns:
      `{pair: {distance: value}}`.

    Raises:
      InputError: for images or folders that cannot be compared, and unknown distances.
    """
    if not (config.a and config.b):
        raise InputError("give two images or two folders: perceptual-jax compare A B")
    distances = [pj.make(spec) for spec in config.distances]
    if not distances:
        raise InputError("--distances must name at least one distance")
    positive_integer("--multiple", config.multiple)
    pairs = _pairs(Path(config.a), Path(config.b))
    for wanted in (config.csv, config.json):
        if wanted is not None and not Path(wanted).parent.is_dir():
            raise InputError(f"cannot write {wanted}: there is no folder {Path(wanted).parent}")
    folder = start("compare", config, distances=distances)
    without = [d.name for d in distances if d.compare_maps is None] if config.map else []
    with folder.discarded_on_error():
        results, pictures = _compare(config, distances, pairs, folder)
        table = _write(config, folder, results, pictures, without)
    console.print(table)
    if without:
        console.print(f"not of places, so without a map: {', '.join(without)}")
    console.print(f"report: {folder.path / 'report.html'}")
    return results


def _compare(
    config: Config,
    distances: Sequence[pj.Distance],
    pairs: Mapping[str, tuple[Path, Path]],
    folder: RunFolder,
) -> tuple[dict[str, dict[str, float]], _Pictures]:
    """Scores every pair; draws its maps if asked to."""
    params, score = scorer(distances, config.seed)
    with_maps = [d for d in distances if d.compare_maps is not None] if config.map else []
    draw = {d.name: jax.jit(d.map) for d in with_maps}
    results: dict[str, dict[str, float]] = {}
    shown: _Pictures = {}
    sizes: set[tuple[int, ...]] = set()
    half_grey: list[str] = []
    with progress("compare", len(pairs), unit="pairs") as advance:
        for name, (path_x, path_y) in pairs.items():
            x, y = _read(config, path_x), _read(config, path_y)
            if x.shape != y.shape:
                raise InputError(
                    f"{path_x} is {_size(x)} and {path_y} is {_size(y)}: "
                    "resize one of them, or give --size"
                )
            sizes.add(x.shape)
            if (
                len(sizes) == _MANY_SIZES
                and len(sizes) == len(results) + 1
                and config.multiple == 1
            ):
                console.print(
                    f"The first {_MANY_SIZES} images have {_MANY_SIZES} sizes, each of which is "
                    "compiled; --multiple 64 crops them to few."
                )
            if _is_grey(x) != _is_grey(y):
                half_grey.append(name)
            values = score(x[None], y[None])
            results[name] = {d.name: float(values[d.name][0]) for d in distances}
            folder.log(pair=name, **results[name])
            # Of one pair alone they are called as of any other: two runs are held side by side.
            prefix = f"{file_name(name)}-" if len(pairs) > 1 else ""
            pictures = [(x, path_x.name), (y, path_y.name)]
            for distance, where in draw.items():
                value = f"{distance} · {results[name][distance]:.4g}"
                found = np.asarray(where(params, x[None], y[None])[0])
                picture, most = heat(found), brightest(found)
                about = f"{value}. On a scale of its own: black is 0, bright yellow {most:.3g}."
                folder.write_image(f"{prefix}{file_name(distance)}.png", picture, about=about)
                pictures.append((picture, f"{value}, up to {most:.3g}"))
            if len(results) <= _PICTURED:
                shown[name] = pictures
                folder.write_image(f"{prefix}b.png", y, about=path_y.name)
            advance()
    if half_grey:
        more = f" and {len(half_grey) - 5} more" if len(half_grey) > 5 else ""
        console.print(
            "One is grey and the other is not, which distances count too: "
            f"{', '.join(half_grey[:5])}{more}"
        )
    return results, shown


def heat(values: np.ndarray) -> np.ndarray:
    """A map [h, w] as a picture: black is no difference, bright yellow the `brightest`."""
    from matplotlib import colormaps

    scale = brightest(values)
    unit = np.clip(values / scale, 0, 1) if scale > 0 else np.zeros_like(values)
    return pj.images.to_uint8(colormaps["inferno"](unit)[..., :3])


def brightest(values: np.ndarray) -> float:
    """The difference from which on a map [h, w] is at its brightest.

    Half a percent of its pixels may be above it, up to twentyfold: one pixel alone should neither
    darken the rest nor vanish beside it.
    """
    return max(float(np.quantile(values, 0.995)), float(values.max()) / 20)


def _pairs(a: Path, b: Path) -> dict[str, tuple[Path, Path]]:
    """`{name: (file of a, file of b)}`."""
    for path in (a, b):
        if not path.exists():
            raise InputError(f"there is no file or folder {path}")
    if a.is_dir() != b.is_dir():
        raise InputError(f"compare two images or two folders; got {a} and {b}")
    if not a.is_dir():
        return {a.stem if a.stem == b.stem else f"{a.stem} / {b.stem}": (a, b)}
    in_a, in_b = _by_stem(a), _by_stem(b)
    alone = sorted({*in_a} ^ {*in_b})
    if alone:
        where = [f"{name} (only in {a if name in in_a else b})" for name in alone]
        more = f" and {len(where) - 5} more" if len(where) > 5 else ""
        raise InputError(
            f"images without a partner: {', '.join(where[:5])}{more}; "
            "take them out, or give both folders the same names"
        )
    return {name: (in_a[name], in_b[name]) for name in in_a}


def _by_stem(folder: Path) -> Mapping[str, Path]:
    files: dict[str, Path] = {}
    for file in pj.images.find(folder):
        if file.stem in files:
            raise InputError(f"{files[file.stem]} and {file} have the same name but for the ending")
        files[file.stem] = file
    return files


def _read(config: Config, path: Path) -> np.ndarray:
    try:
        picture = pj.images.read(path, background=config.background)
    except InputError as error:
        if not str(error).endswith("choose a background"):
            raise
        raise InputError(f"{error}: --background 255 255 255, say") from None
    if config.size is not None:
        picture = centre_square(picture, config.size)
    sides = [side // config.multiple * config.multiple for side in picture.shape[:2]]
    if 0 in sides:
        raise InputError(f"{path} is {_size(picture)}: smaller than --multiple {config.multiple}")
    top, left = ((a - b) // 2 for a, b in zip(picture.shape[:2], sides, strict=True))
    return picture[top : top + sides[0], left : left + sides[1]]


def _is_grey(image: np.ndarray) -> bool:
    return bool((image == image[..., :1]).all())


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _write(
    config: Config,
    folder: RunFolder,
    results: dict[str, dict[str, float]],
    pictures: _Pictures,
    without: Sequence[str],
) -> Table:
    """The files; returns the table for the terminal. `without`: whose maps are missing."""
    names = list(next(iter(results.values())))
    rows = [(pair, [values[d] for d in names]) for pair, values in results.items()]
    if len(rows) > 1:
        rows.append(("mean", np.mean([row for _, row in rows], axis=0).tolist()))
    text = io.StringIO()
    csv.writer(text).writerows([["pair", *names], *([pair, *row] for pair, row in rows)])
    write_whole(folder.path / "results.csv", text.getvalue().encode(errors="backslashreplace"))
    folder.write_json("results.json", results)
    for wanted, written in ((config.csv, "results.csv"), (config.json, "results.json")):
        if wanted is not None:
            try:
                write_whole(Path(wanted), (folder.path / written).read_bytes())
            except OSError as error:
                raise InputError(f"cannot write {wanted}: {error.strerror}") from None
    shown = [[pair, *(f"{value:.6g}" for value in row)] for pair, row in rows]
    table = Table("pair", *names, box=None, caption=_READING if _of_similarity(names) else None)
    for row in shown:
        table.add_row(*row)
    introduction = f"{config.a} against {config.b}; smaller is closer."
    if _of_similarity(names):
        introduction += f" {_READING}"
    report = Report("Comparison", introduction)
    report.table(["pair", *names], shown)
    report.heading("Pictures")
    if len(results) > len(pictures):
        report.text(f"The first {len(pictures)} of {len(results)} pairs.")
    if config.map:
        report.text(
            "Every map has its own scale: black is no difference, yellow the one given below it."
        )
    if without:
        report.text(f"Not of places, so without a map: {', '.join(without)}.")
    report.pictures(pictures)
    report.how_it_was_made(config)
    report.write(folder.path / "report.html")
    return table


_READING = "ssim and ms-ssim are distances, 1 - SSIM: 0 for equal images."


def _of_similarity(names: Sequence[str]) -> bool:
    """Whether one of the distances is widely reported as a similarity."""
    return any(name.startswith(("ssim", "ms-ssim")) for name in names)
