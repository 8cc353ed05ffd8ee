"""Options of `perceptual-jax image-mean`, and what they must be."""

from __future__ import annotations

import dataclasses
from typing import Literal

from experiments.common.options import check_bounds
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "Kind", "Start", "check"]

Kind = Literal["views", "textures", "shifts"]
Start = Literal["mean", "gray", "zeros", "blur", "noise", "split"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax image-mean`."""

    data: str = "embedded"
    """"embedded", or yours: for views a folder of folders (each a set of similar images) or a
    folder of images; for textures a folder of pictures; for shifts one picture."""
    kind: Kind = "views"
    """What the images of a set have in common: they are views of one picture, moved and bent;
    pieces of one texture, of which no two show the same spot; or, set after set, views of one
    picture moved further and further, which finds the shift at which a distance gives up."""
    distances: tuple[str, ...] = ("l2", "ssim", "vgg16", "vgg16-random", "lpips-vgg")
    """Distances of the catalogue, as names, as calls: "vgg16(metric='l2')", or as sums of them:
    "l1 + 0.1 * lpips-vgg"."""
    sets: int = 4
    """How many sets of views or textures, side by side."""
    images_per_set: int = 6
    """How many images of each set."""
    size: int = 128
    """Side of the images, in pixels."""
    shift: float = 3.0
    """Embedded sets: how far each view is moved, at most, in pixels."""
    warp: float = 1.5
    """Embedded sets: how far each view is bent, at most, in pixels."""
    shifts: tuple[float, ...] = (0, 1, 2, 4, 8, 16)
    """Shifts: how far the views of each set are moved, at most, in pixels."""
    start: Start = "mean"
    """What to start from: the pixel mean, mid-gray, zeros, the mean blurred, noise, or the left
    half of the first image beside the right half of the second."""
    scales: int = 1
    """How many sizes it is sought at, each twice the one before; the steps are shared by them."""
    steps: int = 150
    """How many steps of Adam."""
    learning_rate: float = 0.01
    """Of Adam, on images in [0, 1]; times 0.9 every 1000 steps."""
    redraw_every: int = 0
    """Draw the random features anew every so many steps; 0 keeps them."""
    seed: int = 0
    """Of all random draws."""
    snapshot_every: int = 50
    """Save a checkpoint and log metrics every so many steps."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(sets=2, size=96, steps=80, distances=("l2", "vgg16", "lpips-vgg")),
    "default": Config(),
    "paper": Config(steps=3000, start="noise", snapshot_every=250),
    "textures": Config(
        kind="textures",
        sets=3,
        distances=("l2", "vgg16", "vgg16(metric='gram')", "mmd++", "swd"),
        start="noise",
        scales=3,
        steps=300,
    ),
    "shifts": Config(kind="shifts", size=96),
}


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    bounds = {
        **{"steps": (1, 10**9), "snapshot_every": (1, 10**9), "redraw_every": (0, 10**9)},
        **{"size": (2, 8192), "sets": (1, 10**6), "images_per_set": (1, 10**6)},
        **{"shift": (0, 1000), "warp": (0, 1000), "learning_rate": (1e-9, 1e3)},
        "scales": (1, 16),
        "seed": (0, 2**31 - 1),
    }
    check_bounds(config, bounds)
    if config.start == "split" and config.images_per_set < 2:
        raise InputError("--start split needs at least two images in a set")
    if config.size >> (config.scales - 1) < 2 or config.steps < config.scales:
        raise InputError(
            f"--scales {config.scales} are too many for --size {config.size} and --steps "
            f"{config.steps}: the coarsest must have at least 2 pixels, and each a step"
        )
    if not config.shifts or any(not 0 <= shift <= 1000 for shift in config.shifts):
        raise InputError(
            f"--shifts must name one or more, of at least 0 and at most 1000 pixels; got "
            f"{' '.join(map(str, config.shifts))}"
        )
    if len(set(config.shifts)) < len(config.shifts):
        raise InputError("--shifts must name each shift once")
