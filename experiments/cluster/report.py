"""What a clustering shows: assignments, scores, and the report."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

import perceptual_jax as pj
from experiments.cluster.config import Config, matching
from experiments.cluster.found import Clusters
from experiments.common.data import Labelled
from experiments.common.figures import panels
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name
from perceptual_jax._files import write_whole

__all__ = ["write"]


_NUMBERS = {
    "f1": "weighted F1",
    "precision": "precision",
    "recall": "recall",
    "nmi": "NMI",
    "ari": "ARI",
}
_NEAREST = 7


def write(
    config: Config,
    folder: RunFolder,
    data: Labelled,
    found: dict[str, dict[str, Clusters]],
    ways: dict[str, str],
) -> None:
    """Pictures, results.json, the assignments, the scores and the report."""
    each = [(name, method, made) for name, by in found.items() for method, made in by.items()]
    folder.write_json("results.json", _as_json(config, data, each, ways))
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["file", "label", *(f"{name}, {method}" for name, method, _ in each)])
    for place, file in enumerate(data.files):
        chosen = [int(made.labels[made.best, place]) for _, _, made in each]
        rows.writerow([file, data.names[data.labels[place]], *chosen])
    write_whole(folder.path / "assignments.csv", text.getvalue().encode(errors="surrogateescape"))
    for name, method, made in each:
        shown = [made.pictures[c] for c in made.largest(config.shown) if c in made.pictures]
        if shown:
            folder.write_image(f"{file_name(name)}-{method}.png", pj.images.grid([shown]))
    if each[0][2].scores:
        bars(found).savefig(folder.path / "scores.png", dpi=110)
        table = Table(*("distance", "method", "F1", "NMI", "ARI"), box=None)
        for name, method, made in each:
            numbers = _mean_and_spread(made)
            table.add_row(name, method, *(numbers[place] for place in (0, 3, 4)))
        console.print(table)
    report_on(config, data, found, ways).write(folder.path / "report.html")
    console.print(f"report: {folder.path / 'report.html'}")


def _mean_and_spread(made: Clusters) -> list[str]:
    values = np.asarray(made.scores)
    spread = "" if len(values) == 1 else " ± {:.3f}"
    return [
        f"{mean:.3f}" + spread.format(deviation)
        for mean, deviation in zip(values.mean(axis=0), values.std(axis=0), strict=True)
    ]


def _as_json(
    config: Config, data: Labelled, each: list[tuple[str, str, Clusters]], ways: dict[str, str]
) -> dict[str, Any]:
    return {
        "images": len(data.images),
        "labels": list(data.names),
        "match": matching(config, data) if len(data.names) > 1 else None,
        "how": ways,
        "results": [
            {
                "distance": name,
                "method": method,
                "inertia": made.inertia.tolist(),
                "best": made.best,
                "clusters_used": [len(np.unique(row)) for row in made.labels],
                "scores": [score._asdict() for score in made.scores],
            }
            for name, method, made in each
        ],
    }


def report_on(
    config: Config,
    data: Labelled,
    found: dict[str, dict[str, Clusters]],
    ways: dict[str, str],
) -> Report:
    """The report's page."""
    report = Report(
        "Which distance puts images of one kind together?",
        f"{len(data.images)} images were put into clusters by how far they are from each other "
        "under each distance; nothing was learned from their labels. k-means is shown by the "
        "smooth image whose embedding is nearest to each centroid, found by descent from the "
        "cluster's pixel mean, and by its nearest images; the one-hot autoencoder by the images "
        "that its decoder holds.",
    )
    labelled = len(data.names) > 1
    if labelled:
        report.figure(bars(found), "Weighted F1 and NMI of every distance, with the spread")
        report.table(
            ["distance", *_NUMBERS.values()],
            [
                [f"{name}, {method}", *_mean_and_spread(made)]
                for name, by in found.items()
                for method, made in by.items()
            ],
        )
        how = {
            "one-to-one": "each gets another, so that as many images as possible are right",
            "majority": "each gets the label that most of its images have",
        }[matching(config, data)]
        report.text(
            "F1, precision and recall are means over labels, weighted by their images, after "
            f"clusters got labels: {how}. NMI and the adjusted Rand index need no labels for "
            f"clusters. Mean and standard deviation over {config.repeats} repeats of k-means, each "
            f"the best of {config.restarts} starts by inertia."
        )
    for name, by in found.items():
        report.heading(name)
        report.text(f"{ways[name]}.")
        for method, made in by.items():
            report.pictures(_rows(config, data, method, made))
    report.how_it_was_made(config)
    return report


def _rows(
    config: Config, data: Labelled, method: str, made: Clusters
) -> dict[str, list[tuple[np.ndarray, str]]]:
    """Each cluster's picture and the images nearest to what stands for it."""
    labels = made.labels[made.best]
    rows = {}
    for number, cluster in enumerate(made.largest(config.shown), start=1):
        members = np.flatnonzero(labels == cluster)
        nearest = members[np.argsort(made.cost[members], kind="stable")][:_NEAREST]
        row = [(data.images[i], data.names[data.labels[i]]) for i in nearest.tolist()]
        if cluster in made.pictures:
            row.insert(0, (made.pictures[cluster], _PICTURE[method]))
        title = f"{method}, cluster {number}: {members.size} images"
        if len(data.names) > 1:
            counts = np.bincount(data.labels[members])
            title += f", {counts.max() / members.size:.0%} {data.names[counts.argmax()]}"
        rows[title] = row
    return rows


_PICTURE = {"k-means": "nearest to the centroid", "autoencoder": "decoded"}


def bars(found: dict[str, dict[str, Clusters]]) -> Figure:
    """Weighted F1 and NMI of every distance and method, with standard deviations."""
    figure, both = panels(2, size=(10, 1.2 + 0.5 * len(found)), sharey=True)
    names = list(found)
    colours = {"k-means": "#7aa6c2", "autoencoder": "#d8a25e"}
    methods = list(next(iter(found.values())))
    for axes, number in zip(both, ("f1", "nmi"), strict=True):
        for place, method in enumerate(methods):
            values = [[getattr(s, number) for s in found[n][method].scores] for n in names]
            height = 0.8 / len(methods)
            axes.barh(
                np.arange(len(names)) + (place - (len(methods) - 1) / 2) * height,
                [np.mean(row) for row in values],
                height,
                xerr=[np.std(row) for row in values],
                color=colours[method],
                ecolor="#444",
                label=method,
            )
        axes.set(xlabel=_NUMBERS[number], xlim=(0, 1.02))
        axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
