"""Networks by name and kind of weights, and their layers on either side of a ReLU."""

from __future__ import annotations

from typing import Literal

import perceptual_jax as pj
from perceptual_jax.backbones import BACKBONES, Backbone
from perceptual_jax.backbones.network import ReLU
from perceptual_jax.distances.features import DEFAULT_LAYERS, features

__all__ = ["Weights", "after_relu", "before_relu", "distance_of"]

Weights = Literal["trained", "random", "random-zero-mean"]
"""Trained, random, or random and every filter of the first layer without its mean."""


def distance_of(backbone: str, weights: str) -> pj.Distance:
    """The distance whose params are the network's: the same random draws as in the catalogue."""
    trained = weights == "trained"
    return features(
        backbone=backbone,
        weights="imagenet" if trained else weights,
        name=backbone if trained else f"{backbone}-{weights}",
    )


def after_relu(backbone: str) -> tuple[str, ...]:
    """The layers that distances compare by default, after their ReLU."""
    table = BACKBONES[backbone].layers
    following = {
        layer.name: after.name if isinstance(after, ReLU) else layer.name
        for layer, after in zip(table, [*table[1:], table[-1]], strict=True)
    }
    return tuple(following[name] for name in DEFAULT_LAYERS[backbone] if name != "pixels")


def before_relu(backbone: Backbone, layer: str) -> str:
    """The layer that a ReLU is fed by; any other layer itself."""
    place = backbone.layer_names.index(layer) - 1
    if place < 0 or not isinstance(backbone.layers[place], ReLU):
        return layer
    return backbone.layer_names[place]
