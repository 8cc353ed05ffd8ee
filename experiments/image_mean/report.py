"""What a run of `perceptual-jax image-mean` writes: pictures, numbers, plots and the page."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.common.figures import RELATIVE_LOSS, legend_beside, panels, plot_dotted, relative
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name
from experiments.image_mean.config import Config
from experiments.image_mean.endurance import Endurance, add_endurance, endurance_of
from experiments.image_mean.method import Mean

__all__ = ["add_means", "write"]


def write(
    config: Config, folder: RunFolder, sets: dict[str, np.ndarray], means: dict[str, Mean]
) -> None:
    """Pictures, results.json, the grid, the curves and the report."""
    names = list(sets)
    rows = []
    for i, name in enumerate(names):
        rows.append([*sets[name][:2], *(mean.images[i] for mean in means.values())])
        for distance, mean in means.items():
            folder.write_image(f"{file_name(name)}-{file_name(distance)}.png", mean.images[i])
    columns = ["the first of the set", "the second", *means]
    folder.write_image("grid.png", pj.images.grid(rows), rows=names, columns=columns)
    results: dict[str, Any] = {
        "sharpness": {
            distance: dict(zip(names, mean.sharpness.tolist(), strict=True))
            for distance, mean in means.items()
        }
    }
    endurance = endurance_of(config, sets, means) if config.kind == "shifts" else None
    if endurance is not None:
        results |= endurance._asdict()
    folder.write_json("results.json", results)
    report_on(config, sets, means, endurance).write(folder.path / "report.html")
    table = ", ".join(f"{d} {mean.sharpness.mean():.2f}" for d, mean in means.items())
    console.print(f"sharpness relative to the inputs: {table}")
    console.print(f"report: {folder.path / 'report.html'}")


def report_on(
    config: Config,
    sets: dict[str, np.ndarray],
    means: dict[str, Mean],
    endurance: Endurance | None,
) -> Report:
    """The report's page."""
    report = Report(
        "Generalised image mean",
        f"{_WHAT[config.kind]} The number is the sharpness: gradient energy relative to the "
        "inputs, 1 is as sharp as they are.",
    )
    add_means(report, sets, means)
    if endurance is not None:
        add_endurance(report, config.shifts, means, endurance)
    report.heading("On the way")
    report.figure(
        curves(means),
        "Loss relative to the first logged value, and sharpness, against steps"
        + ("; at every scale anew" if config.scales > 1 else ""),
    )
    report.how_it_was_made(config)
    return report


_WHAT = {
    "views": "Each row is a set of similar images, and the one image that is closest to all of "
    "them under each distance. A distance that compares pixels blurs what does not line up; one "
    "that sees as people do keeps it sharp.",
    "textures": "Each row is a set of pieces of one texture, and the one image that is closest to "
    "all of them under each distance. Nothing in the pieces lines up: a distance that compares "
    "place by place, in pixels or in features, finds a blur or a mixture, while one that compares "
    "what there is, wherever it is, finds another piece of the texture.",
    "shifts": "Each row is a set of views of one picture, moved further from row to row, and the "
    "one image that is closest to all of them under each distance. The further they are moved, the "
    "less lines up.",
}


def add_means(report: Report, sets: dict[str, np.ndarray], means: dict[str, Mean]) -> None:
    """The grid of inputs and means, and the table of their sharpness."""
    report.pictures(
        {
            name: [
                *((image, f"input {i + 1}") for i, image in enumerate(images[:2])),
                *(
                    (mean.images[row], f"{distance} · sharpness {mean.sharpness[row]:.2f}")
                    for distance, mean in means.items()
                ),
            ]
            for row, (name, images) in enumerate(sets.items())
        }
    )
    report.table(
        ["sharpness", *sets, "mean"],
        [
            [distance, *(f"{v:.3f}" for v in mean.sharpness), f"{mean.sharpness.mean():.3f}"]
            for distance, mean in means.items()
        ],
    )


def curves(means: dict[str, Mean]) -> Figure:
    """Loss and sharpness of every distance against steps."""
    figure, (left, right) = panels(2)
    for distance, mean in means.items():
        if not mean.metrics:
            continue
        steps = [line["step"] for line in mean.metrics]
        losses = relative(np.mean(line["loss"]) for line in mean.metrics)
        plot_dotted(left, steps, losses, distance)
        plot_dotted(right, steps, (np.mean(line["sharpness"]) for line in mean.metrics), distance)
    left.set(xlabel="step", ylabel=RELATIVE_LOSS)
    right.set(xlabel="step", ylabel="sharpness relative to inputs")
    legend_beside(figure, right)
    return figure
