"""The options of `perceptual-jax activations`, checked, and the pictures that they name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import perceptual_jax as pj
from experiments.common.data import centre_square, embedded_photographs, named_picture
from experiments.common.networks import Weights, after_relu
from experiments.common.options import check_bounds
from perceptual_jax.backbones import BACKBONES, PIXELS
from perceptual_jax.errors import InputError, choice

__all__ = ["PRESETS", "Config", "Inputs", "check", "check_patches", "layers_of", "read_inputs"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax activations`."""

    network: str = "vgg16"
    """A network: vgg16, alexnet, vgg19, squeezenet1_1, ... (`perceptual-jax weights list`)."""
    weights: Weights = "trained"
    """Trained, random, or random and every filter of the first layer without its mean."""
    layers: tuple[str, ...] = ()
    """Its layers: conv3_3 is before the ReLU, relu3_3 after it, pool3 after pooling; by default
    those that distances compare, after their ReLU."""
    channels: tuple[int, ...] = ()
    """Channels of every layer, by number; by default those whose answers to the image differ most
    from place to place."""
    channels_per_layer: int = 4
    """How many channels of each layer, where they are not named."""
    image: str = "chelsea"
    """An image file, or an embedded picture: astronaut, chelsea, coffee, rocket, motorcycle."""
    prediction: str | None = None
    """An image file to show beside the image, with the differences of their features."""
    data: str = "embedded"
    """Where patches are looked for: a folder of images, or "embedded"."""
    max_images: int = 50
    """How many images of the folder are looked at, the first by name."""
    size: int = 224
    """Every image is its centre square, resized to this side, in pixels."""
    patches: int = 5
    """How many of the patches a channel answers to most."""
    steps: int = 64
    """Of Adam, for the patches drawn to please a channel; 0 draws none."""
    learning_rate: float = 0.1
    """Of Adam, on Fourier coefficients."""
    smoothness: float = 0.1
    """The weight of total variation in what is drawn."""
    distances: tuple[str, ...] = ("l2", "ssim", "mmd++", "vgg16", "lpips-alex")
    """Distances to find nearest patches under, as names or as calls: "vgg16(metric='l2')"."""
    queries: int = 3
    """How many patches of the image to find neighbours of, those with the most detail; 0 for
    none."""
    neighbours: int = 5
    """How many neighbours of each."""
    patch_side: int = 64
    """The side of these patches, in pixels."""
    patch_stride: int = 16
    """How far apart they begin, in pixels."""
    images_at_once: int = 8
    """How many images go through the network at once."""
    seed: int = 0
    """Of all random draws."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""


PRESETS = {
    "quick": Config(
        layers=("relu1_2", "relu2_2", "relu3_3"),
        channels_per_layer=3,
        patches=4,
        size=160,
        queries=2,
        distances=("l2", "ssim", "lpips-alex"),
    ),
    "default": Config(),
}


class Inputs(NamedTuple):
    """What the network is shown, floats in [0, 1].

    Attributes:
      image: [size, size, 3].
      prediction: of the same shape, or None.
      names: of the images that patches come from.
      images: [n, size, size, 3].
    """

    image: np.ndarray
    prediction: np.ndarray | None
    names: list[str]
    images: np.ndarray


def layers_of(config: Config) -> tuple[str, ...]:
    """The layers looked at: those named, or those that distances compare, after their ReLU."""
    return config.layers or after_relu(config.network)


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    choice("--network", config.network, BACKBONES)
    bounds = {
        **{"channels_per_layer": (1, 64), "max_images": (1, 10**6), "size": (32, 8192)},
        **{"patches": (1, 100), "steps": (0, 10**6), "queries": (0, 100), "neighbours": (1, 100)},
        **{"patch_side": (8, config.size), "patch_stride": (1, 8192), "images_at_once": (1, 10**6)},
        **{"seed": (0, 2**31 - 1), "learning_rate": (1e-9, 1e3), "smoothness": (0, 1e6)},
    }
    check_bounds(config, bounds)
    network = BACKBONES[config.network]
    layers = network.checked_layers(layers_of(config))
    if PIXELS in layers:
        raise InputError(f"--layers: {PIXELS} is the image itself; name layers of the network")
    smallest = network.smallest_input(layers)
    if config.size < smallest:
        raise InputError(
            f"--size must be at least {smallest} for {', '.join(layers)}; got {config.size}"
        )
    if len(set(config.channels)) < len(config.channels):
        raise InputError(f"--channels must not repeat; got {config.channels}")
    for layer in layers:
        count = network.channels(layer)
        for channel in config.channels:
            if not 0 <= channel < count:
                raise InputError(
                    f"--channels: {layer} has channels 0 to {count - 1}; got {channel}; "
                    "name fewer --layers"
                )


def check_patches(config: Config, distances: list[pj.Distance]) -> None:
    """Raises an `InputError` for distances that cannot compare patches of this size."""
    names = [distance.name for distance in distances]
    if len(set(names)) < len(names):
        raise InputError(f"--distances must name each once; got {', '.join(names)}")
    patch = jax.ShapeDtypeStruct((1, config.patch_side, config.patch_side, 3), np.float32)
    for distance in distances:
        try:
            jax.eval_shape(distance.embed, jax.eval_shape(distance.init, jax.random.key(0)), patch)
        except InputError as error:
            raise InputError(f"--patch-side: {error}") from None


def read_inputs(config: Config) -> Inputs:
    """Reads the pictures.

    Raises:
      InputError: for files that are missing or cannot be read.
    """
    image = named_picture("--image", config.image, config.size)
    prediction = None
    if config.prediction is not None:
        prediction = named_picture("--prediction", config.prediction, config.size)
    if config.data == "embedded":
        found = embedded_photographs(config.size)
    else:
        if not Path(config.data).is_dir():
            raise InputError(
                f"--data must be 'embedded' or a folder; there is no folder {config.data}"
            )
        found = {
            file.name: centre_square(pj.images.read(file), config.size)
            for file in pj.images.find(config.data)[: config.max_images]
        }
    images = np.stack(list(found.values())).astype(np.float32) / 255
    return Inputs(image, prediction, list(found), images)
