"""What a run of inpainting writes: pictures, numbers, a page."""

from __future__ import annotations

from collections.abc import Mapping

import perceptual_jax as pj
from experiments.common.generators import parameter_count
from experiments.common.judged import (
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
from experiments.inpaint.config import Config

__all__ = ["write"]

_SHOWN = 8


def write(
    config: Config, folder: RunFolder, outcomes: Mapping[str, Outcome], sets: Sets, files: int
) -> None:
    """Writes results.json, the filled pictures and the report, and prints the means."""
    means = write_results(folder, outcomes, sets)
    for name, pictures in sets.items():
        for each, judged in pictures.items():
            row = {"given": judged.given, **judged.made, "original": judged.wanted}
            grid = pj.images.grid([list(row.values())])
            folder.write_image(f"{file_name(f'{name}-{each}')}.png", grid, columns=row)
    _page(config, folder, outcomes, means, sets, files).write(folder.path / "report.html")
    print_means(means)
    console.print(f"report: {folder.path / 'report.html'}")


def _page(
    config: Config,
    folder: RunFolder,
    outcomes: Mapping[str, Outcome],
    means: Means,
    sets: Sets,
    files: int,
) -> Report:
    first = next(iter(outcomes.values()))
    report = Report(
        "Inpainting under several losses",
        f"A network of {parameter_count(first.params):,} parameters fills holes. It learned from "
        f"{files} pictures for {config.steps} steps under l1; every other loss went on from there "
        f"for {config.further_steps} steps. What is outside of a hole is kept exactly. It "
        "begins with a smooth filling by the colours around. Trained on pixels alone it fills with "
        "the mean of what might be there, which is smooth too; a distance that sees as people do "
        "asks for something that looks right.",
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
        add_means(report, means[name], "filled under")
    report.text(
        "Means over the pictures of each set, inside of the holes alone. Of PSNR (dB) larger is "
        "nearer; of distances smaller: they are the means of their maps over the hole. Nobody can "
        "know what was there: what counts is whether it could have been. A distance favours what "
        "was trained under it: look at another one too, and at the pictures."
    )
    add_way(report, folder, outcomes, config.snapshot_every, "inside of test pictures' holes")
    report.how_it_was_made(config)
    return report
