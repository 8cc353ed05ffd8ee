"""What a claim is: a sentence, how it is measured, and the rule that gives the verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.common.run_folder import RunFolder
from perceptual_jax.errors import InputError, shortened

__all__ = [
    "Claim",
    "Measured",
    "Setting",
    "Verdict",
    "read_measured",
    "verdict_on",
]

_ROW = re.compile(r"[^/\\\x00-\x1f]{1,100}")

Verdict = Literal["holds", "holds in part", "does not hold", "undecided"]


class Setting(NamedTuple):
    """With what a claim is measured.

    Attributes:
      pictures: how many embedded photographs.
      size: their side, in pixels.
      steps: of descents.
      training_steps: of networks that are trained.
      judgements: "embedded", or triplets that people judged, as `perceptual-jax two-afc` reads.
      seed: of all random draws.
      folder: the run's.
      asked_to_stop: whether to save and stop.
    """

    pictures: int
    size: int
    steps: int
    training_steps: int
    judgements: str
    seed: int
    folder: RunFolder
    asked_to_stop: Callable[[], bool]


class Measured(NamedTuple):
    """What was measured.

    Attributes:
      numbers: what JSON can hold; all that the verdict, the plot and the table are made of.
      pictures: `{row: [(image [h, w, 3] in [0, 1], caption), ...]}`.
    """

    numbers: dict[str, Any]
    pictures: dict[str, list[tuple[np.ndarray, str]]]


class Claim(NamedTuple):
    """A claim made for perceptual losses.

    Attributes:
      says: the claim.
      how: what is measured.
      rule: when it holds, and when in part.
      measure: does it; raises `Interrupted` when asked to stop.
      verdict: of the numbers, by the rule.
      draw: the plot of the numbers, and what it shows.
      table: the header and the rows of them.
      source: who made it, or measured it before.
    """

    says: str
    how: str
    rule: str
    measure: Callable[[Setting], Measured]
    verdict: Callable[[dict[str, Any]], Verdict]
    draw: Callable[[dict[str, Any]], tuple[Figure, str]]
    table: Callable[[dict[str, Any]], tuple[list[str], list[list[str]]]]
    source: str


def read_measured(folder: Path) -> Measured:
    """What was measured before, from measured.json and the pictures beside it.

    Raises:
      InputError: for what a run did not write; delete it, and it is measured again.
    """
    path = folder / "measured.json"
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        numbers, captions = read["numbers"], read["captions"]
        if not isinstance(numbers, dict):
            raise TypeError("the numbers are none by name")
        for row, shown in captions.items():
            # A row is a part of a file's name, which is of this folder.
            if not _ROW.fullmatch(row) or not all(isinstance(caption, str) for caption in shown):
                raise ValueError(f"there is no row of pictures {shortened(row)!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = shortened(str(error))
        raise InputError(f"{path} cannot be read ({reason}): delete it to measure again") from None
    pictures = {
        row: [
            (pj.images.read(folder / f"{row}-{i + 1}.png").astype(np.float32) / 255, caption)
            for i, caption in enumerate(shown)
        ]
        for row, shown in captions.items()
    }
    return Measured(numbers, pictures)


def verdict_on(parts: Sequence[bool]) -> Verdict:
    """Holds if all parts do, in part if some do."""
    if all(parts):
        return "holds"
    return "holds in part" if any(parts) else "does not hold"
