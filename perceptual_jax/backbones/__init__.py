"""Frozen networks: layer tables, and pure functions that read them."""

from perceptual_jax.backbones.alexnet import ALEXNET
from perceptual_jax.backbones.network import PIXELS, Backbone
from perceptual_jax.backbones.vgg import VGG16

__all__ = ["ALEXNET", "BACKBONES", "PIXELS", "VGG16", "Backbone"]

BACKBONES = {backbone.name: backbone for backbone in (VGG16, ALEXNET)}
"""Every backbone, by the name of its weight set."""
