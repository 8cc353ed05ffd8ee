"""The options of `perceptual-jax fast-style`."""

from __future__ import annotations

import dataclasses

from experiments.common.options import check_bounds
from experiments.fast_style.networks import KIND
from experiments.style_transfer.config import GRAM
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "check"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax fast-style`."""

    style: str = "strokes"
    """The style: an embedded painting (strokes, stained-glass) or an image file."""
    data: str = "embedded"
    """Photographs to learn on: "embedded" (a dozen), or a folder of pictures, and what is in its
    folders."""
    test: tuple[str, ...] = ("chelsea", "coffee")
    """Pictures to show: names of embedded ones, image files, or folders of them."""
    content_distance: str = "vgg16(layers=('relu3_3',), metric='l2')"
    """A distance of the catalogue, as a name or as a call, or a sum of them."""
    style_distance: str = GRAM
    """Likewise; one that compares images of other sizes."""
    content_weight: float = 1.0
    """Of the distance from the content; that of mid-grey is 1."""
    style_weight: float = 5.0
    """Of the distance from the style; that of the content is 1."""
    variation_weight: float = 0.05
    """Of the total variation; that of the content is 1. More is smoother."""
    style_size: int = 256
    """The longer side of the style, in pixels: smaller makes its strokes finer."""
    width: int = 16
    """How many channels the largest maps have; the smallest have four times as many."""
    blocks: int = 5
    """How many residual blocks the network has."""
    crop: int = 128
    """Side of the crops that are learned on, in pixels: a multiple of 4."""
    batch: int = 4
    """How many crops a step takes."""
    steps: int = 1000
    """How many steps of Adam."""
    learning_rate: float = 2e-3
    """Of Adam; it falls to 0 along half a cosine."""
    clip: float = 0.0
    """The greatest norm of a gradient, which is scaled down to it; 0 for any."""
    export_size: int = 512
    """Also write the model for square images of this side as a program that JAX alone can load;
    0 writes none."""
    seed: int = 0
    """Of all random draws."""
    snapshot_every: int = 100
    """Save a checkpoint, log metrics and draw test pictures every so many steps."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(width=8, blocks=2, crop=96, batch=2, steps=80, snapshot_every=40),
    "default": Config(),
    "paper": Config(
        width=32, crop=256, steps=40_000, style_size=512, learning_rate=1e-3, snapshot_every=1000
    ),
}


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    check_bounds(
        config,
        {
            **{"content_weight": (0, 1e9), "style_weight": (0, 1e9), "variation_weight": (0, 1e9)},
            **KIND.bounds,
            "style_size": (32, 8192),
            **{"crop": (32, 4096), "batch": (1, 10**6), "steps": (1, 10**9)},
            **{"learning_rate": (1e-9, 1e3), "clip": (0, 1e30), "export_size": (0, 8192)},
            **{"seed": (0, 2**31 - 1), "snapshot_every": (1, 10**9)},
        },
    )
    if config.crop % 4:
        raise InputError(f"--crop must be a multiple of 4; got {config.crop}")
    if not config.content_weight + config.style_weight:
        raise InputError("--content-weight and --style-weight cannot both be 0")
