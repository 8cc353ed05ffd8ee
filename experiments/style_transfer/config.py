"""The options of `perceptual-jax style-transfer`, checked."""

from __future__ import annotations

import dataclasses
from typing import Literal

import perceptual_jax as pj
from experiments.common.options import check_bounds
from perceptual_jax.errors import InputError

__all__ = ["CONTENTS", "GRAM", "PRESETS", "STYLES", "Config", "check"]

_LAYERS = "layers={'relu1_1': 50, 'relu2_1': 1, 'relu3_1': 0.06, 'relu4_1': 0.06, 'relu5_1': 0.3}"
# The weights make the layers' parts equally large for photographs and paintings.
GRAM = f"vgg16({_LAYERS}, metric='gram')"
"""Gatys' style loss: Gram matrices of the first layer of each block."""

CONTENTS = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle")
STYLES = ("strokes", "stained-glass")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax style-transfer`."""

    content: tuple[str, ...] = ("chelsea", "rocket")
    """Names of embedded pictures, image files, folders of them, or "embedded" for all."""
    style: tuple[str, ...] = STYLES
    """Likewise. Every content is drawn in every style."""
    content_distance: str = "vgg16(layers=('relu4_2',), metric='l2')"
    """A distance of the catalogue, as a name or as a call, or a sum of them."""
    style_distance: tuple[str, ...] = (GRAM,)
    """One or more, each of which draws pictures of its own."""
    content_weight: float = 1.0
    """Of the distance from the content; that of mid-grey is 1."""
    style_weight: float = 10.0
    """Of the distance from the style; that of the content is 1."""
    variation_weight: float = 0.05
    """Of the total variation; that of the content is 1. More is smoother."""
    style_weights: tuple[float, ...] = ()
    """One for each style: blends all of them into one picture for each content."""
    keep_colours: bool = False
    """Transfer the style's light and dark alone, and keep the content's colours."""
    size: int = 256
    """The longer side of contents and styles, in pixels; each keeps its aspect."""
    style_size: int = 0
    """The longer side of styles; smaller makes their strokes finer. 0 is the same as --size."""
    start: Literal["content", "noise"] = "content"
    """What to start from."""
    optimiser: Literal["adam", "lbfgs"] = "adam"
    """L-BFGS has no rate to choose; each of its steps takes two or more evaluations."""
    steps: int = 300
    """How many, shared equally by the scales."""
    learning_rate: float = 0.03
    """Of Adam, on images in [0, 1]."""
    scales: int = 2
    """From how many times halved to the full size, each begun with what the one before found."""
    side_by_side: int = 0
    """How many pictures of one content to draw at once; 0 is one a device on CPU, else eight."""
    seed: int = 0
    """Of noise and of distances that draw at random."""
    snapshot_every: int = 25
    """Save a checkpoint and log metrics every so many steps."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(content=("chelsea",), style=("strokes",), size=192, steps=100),
    "default": Config(),
    "compare": Config(
        content=("chelsea",),
        style=("strokes",),
        style_distance=(
            GRAM,
            GRAM.replace("vgg16", "vgg16-random"),
            "mmd-rff(window=None)",
            "swd",
        ),
        size=192,
        steps=200,
    ),
    "paper": Config(
        content=("embedded",),
        style=("embedded",),
        size=512,
        steps=500,
        scales=1,
        optimiser="lbfgs",
        start="noise",
    ),
}


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    bounds: dict[str, tuple[float, float]] = {
        **{"steps": (1, 10**9), "snapshot_every": (1, 10**9), "side_by_side": (0, 10**6)},
        **{"size": (32, 8192), "style_size": (0, 8192), "scales": (1, 8)},
        **{"content_weight": (0, 1e9), "style_weight": (0, 1e9), "variation_weight": (0, 1e9)},
        **{"learning_rate": (1e-9, 1e3), "seed": (0, 2**31 - 1)},
    }
    check_bounds(config, bounds)
    if config.steps < config.scales:
        raise InputError(f"--steps must be at least --scales, {config.scales}")
    if not config.content_weight + config.style_weight:
        raise InputError("--content-weight and --style-weight cannot both be 0")
    if config.style_weights and not (min(config.style_weights) >= 0 < sum(config.style_weights)):
        raise InputError("--style-weights must be at least 0, and one of them more")
    names = [pj.make(spec).name for spec in config.style_distance]
    if not names or len(set(names)) < len(names):
        raise InputError(f"--style-distance must name one or more, each once; got {names}")
