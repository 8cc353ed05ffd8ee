"""What training generators under several distances came to, as pictures and a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.common.figures import RELATIVE_LOSS, legend_beside, panels, plot_dotted, relative
from experiments.common.image_sets import LAYER, SetScore
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name

__all__ = [
    "INTERPOLATED",
    "SHOWN",
    "Outcome",
    "add_outcomes",
    "add_sets",
    "curves",
    "write_pictures",
]

SHOWN, SAMPLES, INTERPOLATED = 6, 8, 8
"""How many reconstructions, samples, and images between two codes a page shows."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What training under one distance came to; images are [n, h, w, 3] in [0, 1].

    Attributes:
      reconstructions: of all held-out images.
      learned: of the first images learned from.
      samples: `{sampler: of codes that it drew}`.
      interpolations: `{where: between two of them}`: of the codes of two held-out images, and of
        every sampler's noise.
      measures: `{measure: its mean over the held-out images}`.
      metrics: the lines logged on the way.
      sets: `{set: what was found of it}`, of the reconstructions and every sampler's samples.
    """

    reconstructions: np.ndarray
    learned: np.ndarray
    samples: dict[str, np.ndarray]
    interpolations: dict[str, np.ndarray]
    measures: dict[str, float]
    metrics: list[dict[str, Any]]
    sets: dict[str, SetScore] = dataclasses.field(default_factory=dict)


# --- Pictures ------------------------------------------------------------------------------


def write_pictures(
    folder: RunFolder, wanted: np.ndarray, learned: np.ndarray, outcomes: Mapping[str, Outcome]
) -> None:
    """The grids of the page as files, and each reconstruction.

    Args:
      folder: the run's.
      wanted: all images held out, [n, h, w, 3] in [0, 1].
      learned: all images learned from, uint8 [m, h, w, 3].
      outcomes: `{distance: Outcome}`.
    """
    made = {name: outcome.reconstructions[:SHOWN] for name, outcome in outcomes.items()}
    grids = {"reconstructions": {"held out": wanted[:SHOWN], **made}}
    for kind in ("samples", "interpolations"):
        grids[kind] = {
            f"{name}: {row}": images[:SAMPLES]
            for name, outcome in outcomes.items()
            for row, images in getattr(outcome, kind).items()
        }
    grids["neighbours"] = {
        f"{name}: {row}": images
        for name, outcome in outcomes.items()
        for sampler in outcome.samples
        for row, images in _beside_nearest(outcome, sampler, learned).items()
    }
    for name, rows in grids.items():
        as_bytes = [[pj.images.to_uint8(image) for image in row] for row in rows.values()]
        folder.write_image(f"{name}.png", pj.images.grid(as_bytes), rows=rows)
    for name, outcome in outcomes.items():
        for i, image in enumerate(outcome.reconstructions[:SHOWN]):
            folder.write_image(f"{file_name(name)}-{i + 1}.png", image)


def _beside_nearest(outcome: Outcome, sampler: str, learned: np.ndarray) -> dict[str, np.ndarray]:
    """The first samples, and below each what is nearest to it of the images learned from."""
    nearest = outcome.sets[sampler].nearest
    return {
        sampler: outcome.samples[sampler][:SAMPLES],
        **{
            f"{sampler}, nearest by {name}": learned[which[:SAMPLES]]
            for name, which in nearest.items()
        },
    }


# --- The page ------------------------------------------------------------------------------


def add_outcomes(
    report: Report,
    learned: np.ndarray,
    wanted: np.ndarray,
    outcomes: Mapping[str, Outcome],
) -> None:
    """The pictures of all losses, one below the other, and the table of their measures.

    Args:
      report: the page.
      learned: the first images learned from, [k, h, w, 3] in [0, 1].
      wanted: all images held out, [n, h, w, 3] in [0, 1].
      outcomes: `{distance: Outcome}`.
    """

    def rows(originals: np.ndarray, field: str) -> dict[str, list[tuple[np.ndarray, str]]]:
        made = {name: getattr(outcome, field) for name, outcome in outcomes.items()}
        found = {"original": originals, **made}
        return {name: _numbered(images[:SHOWN]) for name, images in found.items()}

    report.heading("Reconstructions of images held out")
    report.pictures(rows(wanted, "reconstructions"))
    measures = list(next(iter(outcomes.values())).measures)
    report.table(
        ["trained under", *measures],
        [
            [name, *(f"{outcome.measures[m]:.4g}" for m in measures)]
            for name, outcome in outcomes.items()
        ],
    )
    report.text(
        f"Means over the {len(wanted)} images held out. Of distances, smaller is nearer; the "
        "sharpness is gradient energy relative to the originals, and 1 is as sharp as they are "
        "(noise raises it too)."
    )
    report.heading("Samples")
    kinds = list(next(iter(outcomes.values())).samples)
    drawn = "; ".join(_SAMPLERS[kind] for kind in kinds)
    report.text(f"Codes drawn as the learned images' codes lie: {drawn}.")
    report.pictures(_by_sampler(outcomes, "samples"))
    report.heading("Interpolations")
    report.text(
        "Rows called codes go from one held-out image's code to another's, in equal steps; others "
        "from one sample to another, along an arc in the noise that the sampler makes codes of."
    )
    report.pictures(_by_sampler(outcomes, "interpolations"))
    report.heading("Reconstructions of images learned from")
    report.pictures(rows(learned, "learned"))


_SAMPLERS: dict[str, str] = {
    "normal": "normal, from the normal distribution that has their mean and covariance",
    "imle": "imle, by a network that was pulled to each code where it was nearest (implicit "
    "maximum likelihood estimation; where codes are few, many of its draws look like the mean "
    "image)",
    "gmmn": "gmmn, by a network whose codes and the learned ones have the least maximum mean "
    "discrepancy (generative moment matching)",
}


def _numbered(images: np.ndarray) -> list[tuple[np.ndarray, str]]:
    return [(image, str(i + 1)) for i, image in enumerate(images)]


def _by_sampler(
    outcomes: Mapping[str, Outcome], field: str
) -> dict[str, list[tuple[np.ndarray, str]]]:
    return {
        f"{name}, {row}": _numbered(images[:SAMPLES])
        for name, outcome in outcomes.items()
        for row, images in getattr(outcome, field).items()
    }


def add_sets(
    report: Report,
    learned: np.ndarray,
    counts: Mapping[str, int],
    of_held: SetScore,
    outcomes: Mapping[str, Outcome],
) -> None:
    """The table of what sets of images were found to be, and samples beside their nearest.

    Args:
      report: the page.
      learned: all images learned from, uint8 [m, h, w, 3].
      counts: how many images were "learned" from, "held out", how many "samples" there are of each
        sampler, and how many make "a group".
      of_held: what was found of the images held out.
      outcomes: `{distance: Outcome}`, with their sets.
    """
    report.heading("Sets of images")
    scores = {"images held out": of_held}
    scores |= {
        f"{name}, {row}": score
        for name, outcome in outcomes.items()
        for row, score in outcome.sets.items()
    }
    measures = list(of_held.measures)
    report.table(
        ["set", *measures],
        [
            [name, *(f"{score.measures[measure]:.4g}" for measure in measures)]
            for name, score in scores.items()
        ],
    )
    group = counts["a group"]
    report.text(
        f"Against the {counts['learned']} images learned from. frechet, kernel: the Frechet "
        f"distance, and the unbiased kernel distance with (u.v / 512 + 1)^3, of VGG-16's 512 "
        f"features {LAYER}, means over places; numbers of other networks' features, FID and KID "
        "among them, are others. sliced wasserstein: of patches of 7x7 pixels of a Laplacian "
        "pyramid, in units of their deviation. Of these, smaller is nearer (the kernel "
        "distance is 0 on average for images of one kind, and may fall below), and images held "
        "out, of which nothing was lost, say what there is to reach. nearest: the mean distance "
        "to the nearest image learned from; samples that are nearer than images held out repeat "
        "what was learned, or are blurry where the distance is l2. sharpness: relative to the "
        "images learned from."
    )
    report.text(
        f"Each number of distributions is of {group} images, a mean over the groups of so many "
        f"that there are ({counts['samples']} samples, {counts['held out']} images held out). The "
        "fewer images, the larger are the Frechet and the sliced Wasserstein distance, also of "
        "images of one kind: compare the rows of this table with each other, and with nothing else."
        + (
            f" The covariance of {group} images has {group - 1} dimensions of 512: of how "
            "features vary together the Frechet distance says little here."
            if group <= _FEATURES
            else ""
        )
    )
    report.heading("Samples beside the images learned from that are nearest to them")
    for name, outcome in outcomes.items():
        for sampler in outcome.samples:
            rows = _beside_nearest(outcome, sampler, learned)
            report.pictures(
                {
                    f"{name}, {row}" if row == sampler else row: _numbered(images)
                    for row, images in rows.items()
                }
            )


_FEATURES = 512
"""Of `LAYER`."""


def curves(outcomes: Mapping[str, Outcome]) -> Figure:
    """The loss of every distance, relative to its first, and the sharpness, against epochs."""
    figure, (left, right) = panels(2)
    for name, outcome in outcomes.items():
        epochs = [line["epoch"] for line in outcome.metrics]
        plot_dotted(left, epochs, relative(line["loss"] for line in outcome.metrics), name)
        plot_dotted(right, epochs, (line["sharpness"] for line in outcome.metrics), name)
    left.set(xlabel="epoch", ylabel=RELATIVE_LOSS)
    right.set(xlabel="epoch", ylabel="sharpness relative to originals")
    legend_beside(figure, right)
    return figure
