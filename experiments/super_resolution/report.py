"""What a run of super-resolution writes: pictures, numbers, a page."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import perceptual_jax as pj
from experiments.common.generators import parameter_count
from experiments.common.judged import (
    Judged,
    Means,
    Sets,
    add_means,
    add_way,
    print_means,
    write_results,
)
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name
from experiments.common.staged import Outcome
from experiments.super_resolution.config import Config

__all__ = ["detail", "write"]

_SHOWN, _SIDE, _ZOOM = 8, 96, 3
"""How many pictures a report shows, the side of their crops, and how much larger pixels become."""


def detail(picture: np.ndarray, side: int, multiple: int) -> tuple[int, int]:
    """Where the square with most detail is, (top, left): the sum of squared differences of pixels.

    Args:
      picture: uint8 [h, w, 3].
      side: of the square; at most the picture's.
      multiple: of which top and left are.
    """
    grey = picture.mean(axis=-1)
    energy = np.square(np.diff(grey, axis=0, append=grey[-1:]))
    energy += np.square(np.diff(grey, axis=1, append=grey[:, -1:]))
    sums = np.pad(energy, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    whole = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    inner = whole[::multiple, ::multiple]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    return int(top) * multiple, int(left) * multiple


def write(
    config: Config, folder: RunFolder, outcomes: Mapping[str, Outcome], sets: Sets, files: int
) -> None:
    """Writes results.json, the enlarged pictures and the report, and prints the means."""
    means = write_results(folder, outcomes, sets)
    crops = _crops(config, sets)
    for name, row in crops.items():
        grid = pj.images.grid([[image for image, _ in row]])
        columns = (caption for _, caption in row)
        folder.write_image(f"crops-{file_name(name)}.png", grid, columns=columns)
    for name, pictures in sets.items():
        for each, judged in pictures.items():
            for method, image in judged.made.items():
                folder.write_image(f"{file_name(f'{name}-{each}-{method}')}.png", image)
    _page(config, folder, outcomes, means, crops, files).write(folder.path / "report.html")
    print_means(means)
    console.print(f"report: {folder.path / 'report.html'}")


def _crops(config: Config, sets: Sets) -> dict[str, list[tuple[np.ndarray, str]]]:
    """The square with most detail of the first pictures, as each made it."""
    found = {}
    for pictures in sets.values():
        for name, judged in list(pictures.items())[:_SHOWN]:
            side = min(_SIDE, *judged.wanted.shape[:2]) // config.scale * config.scale
            top, left = detail(judged.wanted, side, config.scale)
            blocks = np.repeat(np.repeat(judged.given, config.scale, axis=0), config.scale, axis=1)
            images = {"given": blocks, **judged.made, "original": judged.wanted}
            found[name] = [
                (_zoomed(image[top : top + side, left : left + side]), _caption(which, judged))
                for which, image in images.items()
            ]
    return found


def _zoomed(image: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(image, _ZOOM, axis=0), _ZOOM, axis=1)


def _caption(which: str, judged: Judged) -> str:
    values = judged.values.get(which)
    return which if values is None else f"{which} · {values['psnr']:.2f} dB"


def _page(
    config: Config,
    folder: RunFolder,
    outcomes: Mapping[str, Outcome],
    means: Means,
    crops: Mapping[str, list[tuple[np.ndarray, str]]],
    files: int,
) -> Report:
    first = next(iter(outcomes.values()))
    report = Report(
        f"Super-resolution, {config.scale} times, under several losses",
        f"A network of {parameter_count(first.params):,} parameters makes pictures {config.scale} "
        f"times as large. It learned from {files} pictures for {config.steps} steps under l1; "
        f"every other loss went on from there for {config.further_steps} steps. Trained on pixels "
        "alone it makes what is right on average, which is smooth; a distance that sees as people "
        "do asks for the detail that is likely, and pays for it in pixels.",
    )
    report.pictures(crops)
    for name, rows in means.items():
        report.heading(f"Test pictures: {name}")
        add_means(report, rows, "enlarged by")
    report.text(
        "Means over the pictures of each set. Of PSNR (dB) and SSIM larger is nearer: both are of "
        f"luma (BT.601, 16 to 235), without a border of {config.scale} pixels. Of distances "
        "smaller is nearer; they are of colours, without that border. A distance favours what was "
        "trained under it: look at another one too, and at the pictures."
    )
    add_way(report, folder, outcomes, config.snapshot_every, "of test pictures' crops")
    report.how_it_was_made(config)
    return report
