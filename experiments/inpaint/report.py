"""What a run of inpainting writes: pictures, numbers, a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

import perceptual_jax as pj
from experiments.common.generators import parameter_count
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name
from experiments.common.staged import Outcome
from experiments.inpaint.config import Config

__all__ = ["Judged", "write"]

_SHOWN = 8


class Judged(NamedTuple):
    """A test picture with a hole, and what was put there.

    Attributes:
      wanted: the picture itself, uint8 [h, w, 3].
      given: and with the hole.
      made: `{loss: uint8 [h, w, 3]}`.
      values: `{loss: {measure: value inside of the hole}}`.
    """

    wanted: np.ndarray
    given: np.ndarray
    made: dict[str, np.ndarray]
    values: dict[str, dict[str, float]]


Sets = Mapping[str, Mapping[str, Judged]]
"""`{set: {picture: Judged}}`."""


def means(pictures: Mapping[str, Judged]) -> dict[str, dict[str, float]]:
    """`{loss: {measure: its mean over the pictures}}`."""
    rows = next(iter(pictures.values())).values
    return {
        name: {m: float(np.mean([p.values[name][m] for p in pictures.values()])) for m in row}
        for name, row in rows.items()
    }


def write(
    config: Config, folder: RunFolder, outcomes: Mapping[str, Outcome], sets: Sets, files: int
) -> None:
    """Writes results.json, the filled pictures and the report, and prints the means."""
    results = {name: means(pictures) for name, pictures in sets.items()}
    folder.write_json(
        "results.json",
        {
            "means": results,
            "pictures": {
                name: {each: judged.values for each, judged in pictures.items()}
                for name, pictures in sets.items()
            },
            "losses": {name: outcome.loss for name, outcome in outcomes.items()},
        },
    )
    for name, pictures in sets.items():
        for each, judged in pictures.items():
            row = [judged.given, *judged.made.values(), judged.wanted]
            folder.write_image(f"{file_name(f'{name}-{each}')}.png", pj.images.grid([row]))
    _page(config, outcomes, results, sets, files).write(folder.path / "report.html")
    for name, found in results.items():
        measures = list(next(iter(found.values())))
        shown = Table(f"{name}, inside", *measures, box=None)
        for loss, values in found.items():
            shown.add_row(loss, *(f"{values[m]:.4g}" for m in measures))
        console.print(shown)
    console.print(f"report: {folder.path / 'report.html'}")


def _page(
    config: Config,
    outcomes: Mapping[str, Outcome],
    results: Mapping[str, Mapping[str, Mapping[str, float]]],
    sets: Sets,
    files: int,
) -> Report:
    first = next(iter(outcomes.values()))
    report = Report(
        "Inpainting under several losses",
        f"A network of {parameter_count(first.params):,} parameters fills holes. It learned from "
        f"{files} pictures for {config.steps} steps under l1; every other loss went on from there "
        f"for {config.further_steps} steps. What is outside of a hole is kept exactly. Trained on "
        "pixels alone it fills with the mean of what might be there, which is smooth; a distance "
        "that sees as people do asks for something that looks right.",
    )
    for name, pictures in sets.items():
        report.heading(f"Test pictures: {name}")
        shown = dict(list(pictures.items())[:_SHOWN])
        report.pictures(
            {
                each: [
                    (judged.given, "given"),
                    *(
                        (image, f"{loss} · {judged.values[loss]['psnr']:.1f} dB")
                        for loss, image in judged.made.items()
                    ),
                    (judged.wanted, "original"),
                ]
                for each, judged in shown.items()
            }
        )
        table = results[name]
        measures = list(next(iter(table.values())))
        report.table(
            ["filled under", *measures],
            [[loss, *(f"{row[m]:.4f}" for m in measures)] for loss, row in table.items()],
        )
    report.text(
        "Means over the pictures of each set, inside of the holes alone. Of PSNR (dB) larger is "
        "nearer; of distances smaller: they are the means of their maps over the hole. Nobody can "
        "know what was there: what counts is whether it could have been. A distance favours what "
        "was trained under it: look at another one too, and at the pictures."
    )
    report.heading("On the way")
    report.figure(_curves(outcomes), "PSNR inside of the holes of test pictures, and the loss")
    for name, outcome in outcomes.items():
        if name != outcome.loss:
            report.text(f"{name}, with its weights: {outcome.loss}.")
    report.how_it_was_made(config)
    return report


def _curves(outcomes: Mapping[str, Outcome]) -> Figure:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, outcome in outcomes.items():
        steps = [line["step"] for line in outcome.metrics]
        losses = np.array([line["loss"] for line in outcome.metrics])
        left.plot(steps, [line["psnr"] for line in outcome.metrics], label=name)
        right.plot(steps, losses / max(losses[0], 1e-30), label=name)
    left.set(xlabel="step", ylabel="PSNR inside of the holes (dB)")
    right.set(xlabel="step", ylabel="loss / first logged loss")
    left.legend(fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
