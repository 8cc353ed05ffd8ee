"""The options of `perceptual-jax two-afc`."""

from __future__ import annotations

import dataclasses

from experiments.common.triplets import Test
from perceptual_jax.errors import InputError, choice

__all__ = ["PRESETS", "Config", "check"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax two-afc`."""

    data: str = "embedded"
    """"embedded" (a stand-in: no person judged it), a CSV manifest, a folder of BAPPS, or
    "tfds:bapps/val" (experiments/common/bapps_tfds.py prepares it). A manifest's first line is
    ref,p0,p1,judge: three files, relative to its folder, and the fraction of people who chose p1;
    votes (how many people) and split (a part of the data set) may follow."""
    test: Test = "2afc"
    """"2afc", which of two images is nearer; or "jnd", whether two are the same."""
    distances: tuple[str, ...] = (
        "l1", "l2", "ssim", "patch-rbf", "mmd++", "swd", "vgg16-random", "vgg16-random-zero-mean",
        "vgg16", "vgg16(metric='gram')", "lpips-alex", "lpips-vgg",
    )  # fmt: skip
    """Distances of the catalogue, as names, as calls: "vgg16(metric='l2')", or as sums of them:
    "l1 + 0.1 * lpips-vgg"."""
    size: int = 64
    """Every image is resized to this side, in pixels, by Pillow's bicubic filter."""
    subset: str = "val"
    """Of BAPPS: "val" or "train"."""
    per_distortion: int = 60
    """Of the stand-in: how many triplets of each of its six distortions."""
    by_votes: bool = False
    """Weigh triplets by how many people judged them, instead of all alike."""
    resamples: int = 1000
    """How many data sets are drawn, with replacement, for the intervals."""
    images_at_once: int = 128
    """How many images a device embeds at once. What holds all images embeds each of them once."""
    pairs_at_once: int = 64
    """How many pairs a device compares at once."""
    seed: int = 0
    """Of all random draws."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


_MANY = (
    "l1", "l2", "charbonnier", "gradient", "fft-l1", "laplacian-pyramid", "ssim",
    "ms-ssim(levels=3)", "gmsd", "patch-rbf", "patch-laplace", "patch-rbf-joint", "oriented-edges",
    "gabor", "mmd-linear", "mmd-rff", "mmd++", "mmd+++", "swd", "swd++", "windowed-swd",
    "lap-swd", "contextual", "vgg16-random", "vgg16-random-zero-mean", "alexnet-random",
    "alexnet-random-zero-mean", "vgg16", "vgg16(metric='l2')", "vgg16(metric='cosine')",
    "vgg16(metric='gram')", "vgg16(layers='relu3_3')", "alexnet", "alexnet(metric='cosine')",
    "alexnet(metric='gram')", "lpips-alex", "lpips-vgg",
    "lpips-alex(heads=False)", "lpips-vgg(heads=False)", "dists",
)  # fmt: skip

PRESETS = {
    "quick": Config(
        distances=("l1", "l2", "ssim", "mmd++", "alexnet", "lpips-alex"), per_distortion=20
    ),
    "default": Config(),
    "paper": Config(distances=_MANY, per_distortion=200),
}


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    choice("--subset", config.subset, ("val", "train"))
    for field, least in {
        "size": 2, "per_distortion": 1, "resamples": 1, "images_at_once": 3, "pairs_at_once": 1,
    }.items():  # fmt: skip
        if getattr(config, field) < least:
            flag = f"--{field.replace('_', '-')}"
            raise InputError(f"{flag} must be at least {least}; got {getattr(config, field)}")
