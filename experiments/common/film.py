"""How the same images looked on the way: written at every snapshot, then shown side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import perceptual_jax as pj
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name

__all__ = ["add_film", "due", "write_frame"]

_FRAMES, _IMAGES, _GAP = 7, 2, 2
"""How many moments a film shows, and how many images of each; pixels between images of a file."""
_SIDE = 160
"""What larger images are reduced to: 8 in a row are shown no larger on most screens."""


def write_frame(
    folder: RunFolder, name: str, step: int, made: np.ndarray, wanted: np.ndarray
) -> None:
    """Writes what is made at a step, above what is wanted, as NAME-step-STEP.png.

    Args:
      folder: the run's.
      name: of the training.
      step: how many were taken.
      made: square images [n, s, s, 3], uint8 or floats in [0, 1], the same ones at every step.
      wanted: likewise.
    """
    grid = pj.images.grid([[*made], [*wanted]], gap=_GAP)
    folder.write_image(_frame(name, step), grid, rows=("made", "wanted"))


def due(steps: Sequence[int], every: int) -> list[int]:
    """Of the steps of snapshots, those that were due: not those where a run was stopped."""
    return [step for step in steps if step % every == 0 or step == steps[-1]]


def add_film(report: Report, folder: RunFolder, trainings: Mapping[str, Mapping[int, int]]) -> None:
    """Adds a row for each training: its first images at some moments, then what was wanted.

    Moments are spread evenly over those of which there is a file, the first and the last among
    them; a training without any has no row.

    Args:
      report: the page.
      folder: where the files are.
      trainings: `{name: {the step that a file is named by: the step to show}}`, in order.
    """
    rows = {}
    for name, steps in trainings.items():
        files = [(folder.path / _frame(name, step), shown) for step, shown in steps.items()]
        files = [(path, shown) for path, shown in files if path.exists()]
        if not files:
            continue
        places = np.linspace(0, len(files) - 1, min(_FRAMES, len(files))).round().astype(int)
        frames = [(*_read(files[place][0]), files[place][1]) for place in places]
        rows[name] = [(made, f"step {shown:,}") for made, _, shown in frames]
        rows[name].append((frames[-1][1], "original"))
    report.pictures(rows)


def _frame(name: str, step: int) -> str:
    return f"{file_name(name)}-step-{step}.png"


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first images made, one above the other; and what was wanted."""
    picture = pj.images.read(path)
    side = (picture.shape[0] - _GAP) // 2
    made, wanted = picture[:side], picture[-side:]
    lefts = range(0, picture.shape[1], side + _GAP)[:_IMAGES]
    stacks = [
        pj.images.grid([[_reduced(row[:, left : left + side])] for left in lefts], gap=_GAP)
        for row in (made, wanted)
    ]
    return stacks[0], stacks[1]


def _reduced(image: np.ndarray) -> np.ndarray:
    return pj.images.resize(image, _SIDE) if len(image) > _SIDE else image
