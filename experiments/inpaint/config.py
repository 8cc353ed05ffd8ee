"""The options of `perceptual-jax inpaint`."""

from __future__ import annotations

import dataclasses

from experiments.common.options import check_bounds
from experiments.inpaint.masks import Masks
from experiments.inpaint.networks import KIND, multiple
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "check"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax inpaint`."""

    data: str = "embedded"
    """What to learn from: "embedded" (a dozen photographs), or a folder of pictures, and what is in
    its folders."""
    test: tuple[str, ...] = ("embedded",)
    """What to judge by: folders of pictures, each a set; or "embedded", two other photographs."""
    losses: tuple[str, ...] = ("l1", "l1 + lpips-vgg")
    """What to train under: distances of the catalogue, or sums of them, with or without weights:
    "l1 + 0.1 * vgg16". A part without a weight gets that which makes it as large as the first on
    smooth fillings. "adversary" as a part adds a network that tells made from real."""
    measures: tuple[str, ...] = ("lpips-alex", "lpips-vgg")
    """What to judge the holes by, beside PSNR: distances with maps."""
    masks: Masks = "both"
    """What is missing: squares, strokes, or now one and now the other."""
    levels: int = 4
    """How often the network halves the sides."""
    width: int = 24
    """How many channels its largest maps have."""
    crop: int = 64
    """Side of the crops that are learned from, in pixels."""
    batch: int = 16
    """How many crops a step takes under l1."""
    further_batch: int = 4
    """And under each other loss, whose networks cost more than the one that learns."""
    steps: int = 1000
    """How many steps the network takes under l1, with which all other losses begin."""
    further_steps: int = 2400
    """How many steps each other loss takes from there."""
    learning_rate: float = 1e-3
    """Of Adam, under l1; it falls to 0 along half a cosine."""
    further_learning_rate: float = 1e-3
    """And under each other loss."""
    clip: float = 0.0
    """The greatest norm of a gradient, which is scaled down to it; 0 for any."""
    seed: int = 0
    """Of all random draws."""
    snapshot_every: int = 250
    """Save a checkpoint, log metrics and draw test pictures every so many steps."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(
        losses=("l1", "l1 + vgg16(layers=('relu2_2',))"), measures=("lpips-alex",), levels=3,
        width=16, batch=8, steps=250, further_steps=60, learning_rate=2e-3, snapshot_every=100,
    ),
    "default": Config(),
    "paper": Config(
        losses=("l1", "l1 + vgg16", "l1 + lpips-vgg", "l1 + lpips-vgg + adversary"),
        width=64,
        crop=128,
        further_batch=16,
        steps=200_000,
        further_steps=50_000,
        learning_rate=2e-4,
        further_learning_rate=1e-4,
        snapshot_every=1000,
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    check_bounds(
        config,
        {
            **KIND.bounds,
            **{"crop": (16, 4096), "batch": (1, 10**6)},
            **{"further_batch": (1, 10**6), "steps": (1, 10**9), "further_steps": (1, 10**9)},
            **{"learning_rate": (1e-9, 1e3), "further_learning_rate": (1e-9, 1e3)},
            **{"clip": (0, 1e30), "seed": (0, 2**31 - 1), "snapshot_every": (1, 10**9)},
        },
    )
    if config.crop % multiple(config.levels):
        raise InputError(
            f"--crop must be a multiple of {multiple(config.levels)}, since the network halves it "
            f"--levels {config.levels} times; got {config.crop}"
        )
