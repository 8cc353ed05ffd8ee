"""The options of `perceptual-jax train-metric`."""

from __future__ import annotations

import dataclasses
from typing import Literal

from perceptual_jax.errors import InputError, choice

__all__ = ["MODES", "PRESETS", "Config", "Mode", "check"]

Mode = Literal["lin", "tune", "scratch"]
MODES = ("lin", "tune", "scratch")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax train-metric`."""

    data: str = "embedded"
    """What to learn from: "embedded" (a stand-in: no person judged it), a CSV manifest, a folder
    of BAPPS or "tfds:bapps/train"."""
    test: str | None = None
    """Of the same kinds: what to score in the end; by default the part held out."""
    mode: Mode = "lin"
    """What is learned: "lin", the weights of channels alone; "tune", the trunk's network as well,
    from its pretrained weights; "scratch", the same from random ones."""
    trunk: str = "lpips-alex(heads=False)"
    """The distance whose features are weighed, one that embeds images as maps of features; by
    "tune" and "scratch" those of a network."""
    size: int = 64
    """Every image is resized to this side, in pixels, by Pillow's bicubic filter."""
    subset: str = "train"
    """Of BAPPS: "train" or "val"."""
    per_distortion: int = 200
    """Of the stand-in: how many triplets of each of its six distortions."""
    held_out: float = 0.1
    """The fraction of the triplets that is not learned from, but says when to stop."""
    epochs: int = 30
    """How often every triplet is seen, at most."""
    patience: int = 5
    """Stop when the score on what is held out has not risen for so many epochs."""
    batch: int = 50
    """How many triplets a step takes."""
    learning_rate: float = 1e-2
    """Of Adam; it falls to 0 over the second half of the epochs."""
    trunk_learning_rate: float = 1e-4
    """The same of the network's weights, by "tune" and "scratch"."""
    dropout: float = 0.5
    """The fraction of channels that a step leaves out."""
    mirror: bool = False
    """By "tune" and "scratch": mirror all images of every other step, drawn by chance. Not where
    left and right mean something; the paper does not."""
    images_at_once: int = 128
    """By "lin": how many images a device embeds at once."""
    save_every: int = 200
    """By "tune" and "scratch": save after so many steps, and after every epoch."""
    seed: int = 0
    """Of all random draws."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(per_distortion=100, epochs=10),
    "default": Config(),
    "paper": Config(epochs=10, patience=10, learning_rate=1e-4),
}


def check(config: Config, *, learning: int, held: int) -> None:
    """Raises an `InputError` for options that cannot be used.

    Args:
      config: the options.
      learning: how many triplets there are to learn from.
      held: and held out.
    """
    choice("--mode", config.mode, MODES)
    counts = {"epochs": 1, "patience": 1, "batch": 1, "images_at_once": 3, "save_every": 1}
    for field, least in counts.items():
        if getattr(config, field) < least:
            flag = f"--{field.replace('_', '-')}"
            raise InputError(f"{flag} must be at least {least}; got {getattr(config, field)}")
    if not 0 <= config.dropout < 1:
        raise InputError(f"--dropout must be at least 0 and less than 1; got {config.dropout}")
    for field in ("learning_rate", "trunk_learning_rate"):
        if not 0 < getattr(config, field) <= 1:
            flag = f"--{field.replace('_', '-')}"
            raise InputError(
                f"{flag} must be more than 0 and at most 1; got {getattr(config, field)}"
            )
    if held < 1 or learning < config.batch:
        raise InputError(
            f"{learning} triplets to learn from and {held} held out are too few for batches of "
            f"{config.batch}: give more data, or change --held-out or --batch"
        )
