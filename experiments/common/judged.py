"""What networks that mend pictures made of test pictures, and how they came to: numbers, plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from experiments.common.figures import RELATIVE_LOSS, legend_beside, panels, plot_dotted, relative
from experiments.common.film import add_film, due
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder
from experiments.common.staged import Outcome

__all__ = ["Judged", "Means", "Sets", "add_means", "add_way", "print_means", "write_results"]


class Judged(NamedTuple):
    """A test picture, and what became of it.

    Attributes:
      wanted: the picture itself, uint8 [h, w, 3].
      given: what was made of, as a picture, uint8 [h', w', 3].
      made: `{loss, or another way: uint8 [h, w, 3]}`.
      values: `{loss, or another way: {measure: value}}`.
    """

    wanted: np.ndarray
    given: np.ndarray
    made: dict[str, np.ndarray]
    values: dict[str, dict[str, float]]


Sets = Mapping[str, Mapping[str, Judged]]
"""`{set: {picture: Judged}}`."""

Means = dict[str, dict[str, dict[str, float]]]
"""`{set: {loss, or another way: {measure: its mean over the pictures}}}`."""


def write_results(folder: RunFolder, outcomes: Mapping[str, Outcome], sets: Sets) -> Means:
    """Writes results.json: means, every picture's values, and the losses with their weights."""
    found = {name: _means(pictures) for name, pictures in sets.items()}
    folder.write_json(
        "results.json",
        {
            "means": found,
            "pictures": {
                name: {each: judged.values for each, judged in pictures.items()}
                for name, pictures in sets.items()
            },
            "losses": {name: outcome.loss for name, outcome in outcomes.items()},
        },
    )
    return found


def _means(pictures: Mapping[str, Judged]) -> dict[str, dict[str, float]]:
    rows = next(iter(pictures.values())).values
    return {
        name: {m: float(np.mean([p.values[name][m] for p in pictures.values()])) for m in row}
        for name, row in rows.items()
    }


def print_means(means: Means) -> None:
    """A table for each set."""
    for name, rows in means.items():
        measures = list(next(iter(rows.values())))
        shown = Table(name, *measures, box=None)
        for method, row in rows.items():
            shown.add_row(method, *(f"{row[m]:.4g}" for m in measures))
        console.print(shown)


def add_means(report: Report, rows: Mapping[str, Mapping[str, float]], header: str) -> None:
    """Adds the table of one set."""
    measures = list(next(iter(rows.values())))
    report.table(
        [header, *measures],
        [[method, *(f"{row[m]:.4f}" for m in measures)] for method, row in rows.items()],
    )


def add_way(
    report: Report,
    folder: RunFolder,
    outcomes: Mapping[str, Outcome],
    every: int,
    watched: str,
) -> None:
    """Adds how training went: what was watched, the losses, and their weights.

    Args:
      report: the page.
      folder: the run's.
      outcomes: of every loss; their lines have the "psnr" of what was watched.
      every: after so many steps there was a snapshot.
      watched: what was watched, for the axis.
    """
    report.heading("On the way")
    add_film(report, folder, {name: _steps(each, name, every) for name, each in outcomes.items()})
    report.figure(_curves(outcomes, watched), f"PSNR {watched}, and the loss, by steps")
    for name, outcome in outcomes.items():
        if name != outcome.loss:
            report.text(f"{name}, with its weights: {outcome.loss}.")


def _steps(outcome: Outcome, name: str, every: int) -> dict[int, int]:
    """Its snapshots: `{step of its own training: step from the first one under l1}`."""
    own = [line["step"] for line in outcome.metrics if line["under"] == name]
    begun = max((line["step"] for line in outcome.metrics if line["under"] != name), default=0)
    return {step: begun + step for step in due([step - begun for step in own], every)}


def _curves(outcomes: Mapping[str, Outcome], watched: str) -> Figure:
    figure, (left, right) = panels(2)
    for name, outcome in outcomes.items():
        own = [line for line in outcome.metrics if line["under"] == name]
        # From where the training under l1 ended; its loss is another.
        begun = outcome.metrics[-len(own) - 1 : -len(own)]
        watched_lines = [*begun, *own]
        steps = [line["step"] for line in watched_lines]
        plot_dotted(left, steps, (line["psnr"] for line in watched_lines), name)
        losses = relative(line["loss"] for line in own)
        plot_dotted(right, (line["step"] for line in own), losses, name)
    left.set(xlabel="step", ylabel=f"PSNR {watched} (dB)")
    right.set(xlabel="step", ylabel=RELATIVE_LOSS)
    legend_beside(figure, right)
    return figure
