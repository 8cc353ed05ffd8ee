"""Which loss sees like a person? One report on embedded pictures, in minutes on two cores.

The mean of similar images under five losses, and one photograph damaged in six ways that l2
cannot tell apart.

    perceptual-jax demo
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import perceptual_jax as pj
from experiments import image_mean
from experiments.common.data import embedded_picture
from experiments.common.distortions import DISTORTIONS, equally_far
from experiments.common.loop import Interrupted
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import resumed, start
from experiments.compare import scorer

__all__ = ["PRESETS", "Config", "compare_distortions", "run"]


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

_PICTURE, _PICTURE_SIZE = "coffee", 256
_ROOT_MEAN_SQUARE = 0.055
"""How far every distorted picture is from the original, on the [0, 1] scale."""


# --- The run -------------------------------------------------------------------------------


def run(config: Config) -> dict[str, dict[str, float]]:
    """Runs both parts and writes one report.

    Returns:
      `{distortion: {distance: value}}`; the means are in the folder.

    Raises:
      InputError: for options that cannot be used or missing weights.
    """
    config = resumed("demo", config)
    image_mean.check(_means(config, out=""))
    distances = [pj.make(spec) for spec in config.distances]
    folder = start("demo", config, distances=distances)
    mean_config = _means(config, out=str(folder.path))
    try:
        means = image_mean.run(mean_config)
    except Interrupted:
        raise Interrupted(f"stopped; go on with: {folder.resume_command}") from None
    sets = image_mean.targets_of(mean_config)
    original, distorted, values = compare_distortions(distances)
    report = Report(
        "Which loss sees like a person?",
        "A loss for images stands in for a pair of eyes. Two experiments show what each of these "
        "losses sees; everything here was computed on this machine, with the networks' real "
        "pretrained weights.",
    )
    report.heading("The mean of similar images")
    report.text(
        "Each row holds views of one photograph, moved and bent by a few pixels, and the one image "
        "that is closest to all of them under each loss. Pixel losses answer with a blur; a loss "
        "that sees as people do answers with a sharp picture. Sharpness is gradient energy "
        "relative to the views: 1 is as sharp as they are."
    )
    image_mean.add_means(report, sets, means)
    report.heading("Six distortions that l2 cannot tell apart")
    report.text(
        "All six pictures are equally far from the original in l2. People barely mind the first "
        "three and dislike the last three. Values are relative to each loss's mean over the six: "
        "a loss that agrees with people has small numbers on the left and large ones on the right."
    )
    report.pictures(
        {"coffee": [(original, "original"), *((image, name) for name, image in distorted.items())]}
    )
    report.table(
        ["loss", *distorted],
        [
            [d.name, *(f"{v:.2f}" for v in _relative([values[name][d.name] for name in distorted]))]
            for d in distances
        ],
    )
    report.heading("More")
    report.link("image-mean/means/report.html", "The image means in full, with their curves")
    report.write(folder.path / "report.html")
    folder.write_json(
        "results.json",
        {
            "sharpness": {name: mean.sharpness.tolist() for name, mean in means.items()},
            "distortions": values,
        },
    )
    console.print(f"demo: {folder.path / 'report.html'}")
    return values


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


def compare_distortions(
    distances: list[pj.Distance],
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, dict[str, float]]]:
    """The original, its distortions at equal l2, and `{distortion: {distance: value}}`."""
    picture = pj.images.resize(embedded_picture(_PICTURE), _PICTURE_SIZE)
    original = picture.astype(np.float32) / 255
    distorted = {
        name: equally_far(original, distort, _ROOT_MEAN_SQUARE)
        for name, distort in DISTORTIONS.items()
    }
    _, score = scorer(distances, seed=0)
    values = {
        name: {d: float(v[0]) for d, v in score(original[None], image[None]).items()}
        for name, image in distorted.items()
    }
    return original, distorted, values


def _relative(values: list[float]) -> np.ndarray:
    return np.asarray(values) / np.mean(values)
