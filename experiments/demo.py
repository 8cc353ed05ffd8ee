"""Which loss sees like a person? One report on embedded pictures, in minutes on two cores.

Photographs damaged in six ways that l2 cannot tell apart, a choice between two of them as people
are asked to make it, and the mean of similar images: each under five losses.

    perceptual-jax demo
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import perceptual_jax as pj
from experiments import image_mean
from experiments.common.choices import (
    DISLIKED,
    MILD,
    agreement,
    compare_distortions,
    distorted_picture,
)
from experiments.common.data import EMBEDDED
from experiments.common.loop import Interrupted
from experiments.common.options import made
from experiments.common.progress import console, progress
from experiments.common.report import Report
from experiments.common.run_folder import resumed, start
from experiments.compare import scorer

__all__ = ["PRESETS", "Config", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax demo`."""

    distances: tuple[str, ...] = ("l2", "ssim", "vgg16", "vgg16-random", "lpips-vgg")
    """Distances of the catalogue, as names or as calls."""
    size: int = 96
    """Side of the images of the mean, in pixels."""
    steps: int = 80
    """How many steps of Adam each mean takes."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name."""


PRESETS = {"default": Config()}

_SHOWN = "coffee"


# --- The run -------------------------------------------------------------------------------


def run(config: Config) -> dict[str, dict[str, float]]:
    """Runs all parts and writes one report.

    Returns:
      What `agreement` finds; the rest is in the folder.

    Raises:
      InputError: for options that cannot be used or missing weights.
    """
    config = resumed("demo", config)
    image_mean.check(_means(config, out=""))
    distances = made(config.distances, config.size)
    folder = start("demo", config, distances=distances)
    mean_config = _means(config, out=str(folder.path))
    try:
        means = image_mean.run(mean_config)
    except Interrupted:
        raise Interrupted(f"stopped; go on with: {folder.resume_command}") from None
    sets = image_mean.sets_of(mean_config)
    report = Report(
        "Which loss sees like a person?",
        "A loss for images stands in for a pair of eyes. Three experiments show what each of these "
        "losses sees; everything here was computed on this machine, with the networks' real "
        "pretrained weights.",
    )
    _, score = scorer(distances, seed=0)
    pictures = {name: distorted_picture(name) for name in EMBEDDED}
    values = {}
    with progress("distortions", len(pictures), unit="photographs") as advance:
        for name, (original, distorted) in pictures.items():
            values[name] = compare_distortions(score, original, distorted)
            advance()
    agreed = agreement([d.name for d in distances], list(values.values()))
    _add_distortions(report, distances, *pictures[_SHOWN], values[_SHOWN])
    _add_choices(report, agreed, len(values))
    report.heading("The mean of similar images")
    report.text(
        "Each row holds views of one photograph, moved and bent by a few pixels, and the one image "
        "that is closest to all of them under each loss. Pixel losses answer with a blur; a loss "
        "that sees as people do answers with a sharp picture. Sharpness is gradient energy "
        "relative to the views: 1 is as sharp as they are."
    )
    image_mean.add_means(report, sets, means)
    report.heading("More")
    report.link("image-mean/means/report.html", "The image means in full, with their curves")
    report.write(folder.path / "report.html")
    folder.write_json(
        "results.json",
        {
            "sharpness": {name: mean.sharpness.tolist() for name, mean in means.items()},
            "distortions": values,
            "agreement": agreed,
        },
    )
    console.print(f"demo: {folder.path / 'report.html'}")
    return agreed


def _add_distortions(
    report: Report,
    distances: list[pj.Distance],
    original: np.ndarray,
    distorted: dict[str, np.ndarray],
    values: dict[str, dict[str, float]],
) -> None:
    report.heading("Six distortions that l2 cannot tell apart")
    report.text(
        "All six pictures are equally far from the original in l2. People barely mind the first "
        "three and dislike the last three. Values are relative to each loss's mean over the six: "
        "a loss that agrees with people has small numbers on the left and large ones on the right."
    )
    report.pictures(
        {_SHOWN: [(original, "original"), *((image, name) for name, image in distorted.items())]}
    )
    report.table(
        ["loss", *distorted],
        [
            [d.name, *(f"{v:.2f}" for v in _relative([values[name][d.name] for name in distorted]))]
            for d in distances
        ],
    )


def _add_choices(report: Report, agreed: dict[str, dict[str, float]], pictures: int) -> None:
    report.heading("Which of the two is nearer?")
    report.text(
        f"The same for {pictures} photographs, as people are asked it: here are the original and "
        "two damaged versions, which is nearer? One version is damaged in a way that people barely "
        f"mind ({', '.join(MILD)}), one in a way that they dislike ({', '.join(DISLIKED)}), and "
        "both are equally far in l2. A score is how often the loss takes the first for the nearer, "
        "one half where it cannot choose: .5 is chance, 1 is as people are known to choose. Nobody "
        "was asked here; perceptual-jax two-afc scores losses against what people said."
    )
    report.table(
        ["loss", *(next(iter(agreed.values())))],
        [[name, *(f"{score:.2f}" for score in row.values())] for name, row in agreed.items()],
    )


def _means(config: Config, out: str) -> image_mean.Config:
    """The options of the image means, which stand in the demo's own folder."""
    begun = (Path(out) / "image-mean" / "means" / "config.json").exists()
    return image_mean.Config(
        distances=config.distances,
        sets=2,
        size=config.size,
        steps=config.steps,
        out=out,
        name="means",
        resume=begun,
    )


def _relative(values: list[float]) -> np.ndarray:
    return np.asarray(values) / np.mean(values)
