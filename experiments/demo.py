"""Which loss sees like a person? One report on embedded pictures, in minutes on two cores.

Photographs damaged in six ways that l2 cannot tell apart, a choice between two of them as people
are asked to make it, and the mean of similar images, each under five losses; and a photograph drawn
in the manner of a painting, by what trained and what random features call a manner.

    perceptual-jax demo
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments import image_mean, style_transfer
from experiments.common.choices import (
    DISLIKED,
    MILD,
    ROOT_MEAN_SQUARE,
    agreement,
    compare_distortions,
    distorted_picture,
    draw_relative,
)
from experiments.common.data import EMBEDDED
from experiments.common.loop import Interrupted
from experiments.common.options import made
from experiments.common.pictures import fitted, named_pictures
from experiments.common.progress import console, progress
from experiments.common.report import Report
from experiments.common.run_folder import is_begun, resumed, start
from experiments.compare import scorer
from experiments.style_transfer.config import GRAM
from experiments.style_transfer.config import check as check_styles

__all__ = ["PRESETS", "Config", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax demo`."""

    distances: tuple[str, ...] = ("l2", "ssim", "vgg16", "vgg16-random", "lpips-vgg")
    """Distances of the catalogue, as names or as calls, and sums of them."""
    size: int = 96
    """Side of the images of the mean, in pixels."""
    steps: int = 80
    """How many steps of Adam each mean takes."""
    style_size: int = 160
    """The longer side of the pictures of the style transfer, in pixels."""
    style_steps: int = 120
    """How many steps of Adam each of them takes."""
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
    check_styles(_styles(config, out=""))
    distances = made(config.distances, config.size)
    folder = start("demo", config, distances=distances)
    mean_config = _means(config, out=str(folder.path))
    style_config = _styles(config, out=str(folder.path))
    try:
        means = image_mean.run(mean_config)
        drawn = style_transfer.run(style_config)
    except Interrupted:
        raise Interrupted(f"stopped; go on with: {folder.resume_command}") from None
    _, score = scorer(distances, seed=0)
    pictures = {name: distorted_picture(name) for name in EMBEDDED}
    values = {}
    with progress("distortions", len(pictures), unit="photographs") as advance:
        for name, (original, distorted) in pictures.items():
            values[name] = compare_distortions(score, original, distorted)
            advance()
    agreed = agreement([d.name for d in distances], list(values.values()))
    report = Report(
        "Which loss sees like a person?",
        "A loss for images stands in for a pair of eyes. Four experiments show what each of these "
        "losses sees; everything here was computed on this machine. Networks have their real "
        "pretrained weights, except those that are called random.",
    )
    _add_distortions(report, distances, *pictures[_SHOWN], values[_SHOWN])
    _add_choices(report, agreed, len(values))
    report.heading("The mean of similar images")
    report.text(
        "Each row holds views of one photograph, moved and bent by a few pixels, and the one image "
        "that is closest to all of them under each loss. l2 answers with a blur, losses on "
        "features with a sharp picture, also on random ones: what is sharp need not be "
        "what people see. Sharpness is gradient energy relative to the views: 1 is as sharp as "
        "they are, and noise raises it too."
    )
    image_mean.add_means(report, image_mean.sets_of(mean_config), means)
    report.link("image-mean/means/report.html", "The image means in full, with their curves")
    _add_styles(report, style_config, drawn)
    report.write(folder.path / "report.html")
    folder.write_json(
        "results.json",
        {
            "sharpness": {name: mean.sharpness.tolist() for name, mean in means.items()},
            "distortions": values,
            "agreement": agreed,
        },
    )
    console.print(f"report: {folder.path / 'report.html'}")
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
        "All six pictures are equally far from the original in l2, by a root mean square of "
        f"{ROOT_MEAN_SQUARE:g} in [0, 1]. People barely mind the first three and dislike the last "
        "three: a loss that agrees with people is green on the left and red on the right."
    )
    report.pictures(
        {_SHOWN: [(original, "original"), *((image, name) for name, image in distorted.items())]}
    )
    figure = Figure(figsize=(9, 0.8 + 0.32 * len(distances)), layout="constrained")
    axes = figure.subplots()
    names = [distance.name for distance in distances]
    draw_relative(axes, np.array([[values[d][name] for d in distorted] for name in names]), names)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(distorted)), list(distorted))
    report.figure(figure, "How far every loss finds the six, relative to its mean over them")


def _add_choices(report: Report, agreed: dict[str, dict[str, float]], pictures: int) -> None:
    report.heading("Which of the two is nearer?")
    report.text(
        f"The same for {pictures} photographs, as people are asked it: here are the original and "
        "two damaged versions, which is nearer? One version is damaged in a way that people barely "
        f"mind ({', '.join(MILD)}), one in a way that they dislike ({', '.join(DISLIKED)}), and "
        "both are equally far in l2. A score is how often the loss takes the first for the nearer, "
        "one half where it cannot choose: .5 is chance, and 1 is how people choose, as Wang and "
        "Bovik found (Mean Squared Error: Love It or Leave It?, 2009). Nobody was asked here; "
        "perceptual-jax two-afc scores losses against what people said."
    )
    report.table(
        ["loss", *(next(iter(agreed.values())))],
        [[name, *(f"{score:.2f}" for score in row.values())] for name, row in agreed.items()],
    )


def _add_styles(report: Report, config: style_transfer.Config, drawn: Any) -> None:
    ((content, style),) = {(content, style) for _, content, style in drawn}
    report.heading("One picture in the manner of another")
    report.text(
        "A style is how often features answer together, wherever in the picture: the photograph "
        "was changed until its features do so as the painting's do. Features of a network that was "
        "trained to see draw with the painting's strokes; those of the same network with random "
        "weights know its colours, and little else."
    )
    given = named_pictures("--content", (content, style), (content, style))
    sized = {n: pj.images.resize(p, fitted(p, config.size)) for n, p in given.items()}
    distances = dict.fromkeys(distance for distance, _, _ in drawn)
    made = {
        title: drawn[distance, content, style].image
        for title, distance in zip(("trained features", "random features"), distances, strict=True)
    }
    row = [(picture, title) for title, picture in {**sized, **made}.items()]
    report.pictures({f"{content} in {style}": row})
    report.link("style-transfer/styles/report.html", "The style transfer in full")


# --- Its parts' own runs -------------------------------------------------------------------


def _means(config: Config, out: str) -> image_mean.Config:
    """The options of the image means, which stand in the demo's own folder."""
    return image_mean.Config(
        distances=config.distances,
        sets=2,
        size=config.size,
        steps=config.steps,
        snapshot_every=20,
        out=out,
        name="means",
        resume=is_begun(out, "image-mean", "means"),
    )


def _styles(config: Config, out: str) -> style_transfer.Config:
    """Likewise of the style transfer."""
    return dataclasses.replace(
        style_transfer.PRESETS["quick"],
        style_distance=(GRAM, GRAM.replace("vgg16", "vgg16-random")),
        size=config.style_size,
        steps=config.style_steps,
        out=out,
        name="styles",
        resume=is_begun(out, "style-transfer", "styles"),
    )
