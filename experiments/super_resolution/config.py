"""The options of `perceptual-jax super-resolution`."""

from __future__ import annotations

import dataclasses

from experiments.common.options import check_bounds
from experiments.super_resolution.networks import KIND
from perceptual_jax.errors import choice

__all__ = ["PRESETS", "RESIZERS", "SCALES", "Config", "check"]

SCALES = ("2", "3", "4", "8")
RESIZERS = ("bicubic", "bilinear", "lanczos", "box")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax super-resolution`."""

    data: str = "embedded"
    """What to learn from: "embedded" (a dozen photographs), or a folder of pictures, and what is in
    its folders. Some hundred sharp photographs teach more than many small ones."""
    test: tuple[str, ...] = ("embedded",)
    """What to judge by: folders of pictures, each a set; or "embedded", two other photographs."""
    losses: tuple[str, ...] = ("l1", "l1 + lpips-vgg")
    """What to train under: distances of the catalogue, or sums of them, with or without weights:
    "l1 + 0.1 * vgg16". A part without a weight gets that which makes it as large as the first on
    bicubic enlargements. "adversary" as a part adds a network that tells made from real. AlexNet's
    strides let a hatching through: lpips-alex falls by a third, and the pictures show it."""
    measures: tuple[str, ...] = ("lpips-alex", "dists")
    """What to judge by, beside PSNR and SSIM of luma."""
    scale: int = 4
    """How many times larger the sides become: 2, 3, 4 or 8."""
    resizer: str = "bicubic"
    """How small pictures are made of large ones, by Pillow: bicubic, bilinear, lanczos or box."""
    blocks: int = 8
    """How many residual blocks the network has."""
    width: int = 32
    """How many channels its maps have."""
    crop: int = 24
    """Side of the small crops that are learned from, in pixels."""
    batch: int = 16
    """How many crops a step takes under l1."""
    further_batch: int = 4
    """And under each other loss, whose networks cost more than the one that learns."""
    steps: int = 4000
    """How many steps the network takes under l1, with which all other losses begin."""
    further_steps: int = 300
    """How many steps each other loss takes from there."""
    learning_rate: float = 1e-3
    """Of Adam, under l1; it falls to 0 along half a cosine."""
    further_learning_rate: float = 3e-4
    """And under each other loss."""
    clip: float = 0.0
    """The greatest norm of a gradient, which is scaled down to it; 0 for any."""
    seed: int = 0
    """Of all random draws."""
    snapshot_every: int = 250
    """Save a checkpoint, log metrics and draw a test picture every so many steps."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(
        losses=("l1", "l1 + vgg16(layers=('relu2_2',))"), blocks=4, width=16, crop=16, batch=8,
        steps=300, further_steps=60, learning_rate=2e-3,
        measures=("lpips-alex",), snapshot_every=100,
    ),
    "default": Config(),
    "paper": Config(
        losses=("l1", "l1 + vgg16", "l1 + lpips-vgg", "l1 + lpips-vgg + adversary"),
        blocks=16,
        width=64,
        further_batch=16,
        steps=200_000,
        further_steps=50_000,
        learning_rate=2e-4,
        further_learning_rate=1e-4,
        snapshot_every=1000,
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises an `InputError` for options out of bounds."""
    choice("--scale", str(config.scale), SCALES)
    choice("--resizer", config.resizer, RESIZERS)
    check_bounds(
        config,
        {
            **KIND.bounds,
            **{"crop": (8, 4096), "batch": (1, 10**6)},
            "further_batch": (1, 10**6),
            **{"steps": (1, 10**9), "further_steps": (1, 10**9), "snapshot_every": (1, 10**9)},
            **{"learning_rate": (1e-9, 1e3), "further_learning_rate": (1e-9, 1e3)},
            **{"clip": (0, 1e30), "seed": (0, 2**31 - 1)},
        },
    )
