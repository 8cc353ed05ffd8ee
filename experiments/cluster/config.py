"""The options of `perceptual-jax cluster`, checked."""

from __future__ import annotations

import dataclasses
from typing import Literal

from experiments.cluster.scores import Match
from experiments.common.data import Labelled
from experiments.common.options import check_bounds
from perceptual_jax.errors import choice

__all__ = ["PRESETS", "Config", "Matching", "check", "matching"]


Matching = Literal["auto", "one-to-one", "majority"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax cluster`."""

    data: str = "embedded"
    """"embedded" (100 faces and 100 pictures of no face), a folder of folders whose names are
    labels, or a folder of images."""
    distances: tuple[str, ...] = (
        "l1", "l2", "mmd++", "vgg16", "vgg16(metric='l2')", "vgg16(layers=('pool4',), metric='l2')",
        "vgg16(metric='gram')", "lpips-alex", "lpips-vgg",
    )  # fmt: skip
    """Distances of the catalogue, as names or as calls, and sums of them."""
    clusters: int = 0
    """How many clusters; 0 for as many as there are labels."""
    size: int = 64
    """Side of the images, in pixels: the middle square, by Pillow's bicubic filter."""
    repeats: int = 5
    """How often k-means is done, to see the spread."""
    restarts: int = 3
    """How many starts each time; the one with the least inertia counts."""
    iterations: int = 100
    """How many iterations at most."""
    memory: float = 8.0
    """What all embeddings by one distance may take with room to work, in GiB; where they take
    more, k-means works in minibatches."""
    minibatch: int = 0
    """How many images a minibatch has; 0 for all images if they fit into memory, else as many as
    do, at most 1024."""
    passes: int = 5
    """In minibatches: how often every image is seen."""
    match: Matching = "auto"
    """How clusters get the labels that are scored: "one-to-one", each another; "majority", what
    most of it are; "auto", the former where there are as many clusters as labels."""
    mean_steps: int = 60
    """Steps of Adam for the image whose embedding is nearest to a centroid; 0 for none."""
    mean_rate: float = 0.02
    """Its learning rate, on images in [0, 1]."""
    mean_smoothness: float = 4.0
    """The weight of its total variation, beside distances relative to those in the clusters: no
    image has a mean embedding, and what comes nearest is noisy without."""
    autoencoder_repeats: int = 1
    """How often the one-hot autoencoder is trained; 0 for never."""
    autoencoder_steps: int = 120
    """How many steps of Adam."""
    autoencoder_batch: int = 32
    """How many images a step takes."""
    autoencoder_rate: float = 1e-3
    """The learning rate of the encoder."""
    autoencoder_images_rate: float = 0.01
    """And of the decoder's images in [0, 1]."""
    autoencoder_balance: float = 1.0
    """How much of its mean distance from all a decoder's image is let off when the encoder chooses,
    from 0 to 1; it fades until half of the steps are taken. With 0 all may choose the one image
    that is nearest to most."""
    autoencoder_smoothness: float = 0.5
    """The weight of these images' total variation, beside distances relative to those between
    them."""
    images_at_once: int = 32
    """How many images a device embeds at once."""
    shown: int = 10
    """How many clusters the report shows, the largest."""
    seed: int = 0
    """Of all random draws."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(
        distances=("l2", "lpips-alex", "vgg16(metric='l2')"), size=32, mean_steps=40,
        autoencoder_steps=100,
    ),
    "default": Config(),
    "paper": Config(
        repeats=10, restarts=20, mean_steps=300, autoencoder_repeats=5, autoencoder_steps=2000
    ),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    many = 10**9
    bounds = {
        **{"clusters": (0, many), "size": (2, 8192), "repeats": (1, 10**4), "restarts": (1, 10**4)},
        **{"iterations": (1, many), "memory": (1e-6, 1e6), "minibatch": (0, many)},
        **{"passes": (1, many), "mean_steps": (0, many), "mean_rate": (1e-9, 1e3)},
        **{"mean_smoothness": (0, 1e6)},
        **{"autoencoder_repeats": (0, 10**4), "autoencoder_steps": (1, many)},
        **{"autoencoder_batch": (1, many), "autoencoder_rate": (1e-9, 1e3)},
        **{"autoencoder_images_rate": (1e-9, 1e3), "autoencoder_balance": (0, 1)},
        **{"autoencoder_smoothness": (0, 1e6)},
        **{"images_at_once": (1, many)},
        **{"shown": (1, many), "seed": (0, 2**31 - 1)},
    }
    check_bounds(config, bounds)
    choice("--match", config.match, ("auto", "one-to-one", "majority"))


def matching(config: Config, data: Labelled) -> Match:
    """How clusters get their labels."""
    if config.match != "auto":
        return config.match
    return "one-to-one" if config.clusters in (0, len(data.names)) else "majority"
