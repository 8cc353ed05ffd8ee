"""Frozen networks: layer tables, and pure functions that read them."""

from perceptual_jax.backbones.alexnet import ALEXNET
from perceptual_jax.backbones.network import PIXELS, Backbone, ReceptiveField
from perceptual_jax.backbones.shift_tolerant import (
    ALEXNET_SHIFT_TOLERANT,
    VGG16_SHIFT_TOLERANT,
)
from perceptual_jax.backbones.squeezenet import SQUEEZENET1_0, SQUEEZENET1_1
from perceptual_jax.backbones.vgg import (
    VGG11,
    VGG11_BN,
    VGG13,
    VGG13_BN,
    VGG16,
    VGG16_BN,
    VGG19,
    VGG19_BN,
)

__all__ = ["BACKBONES", "PIXELS", "Backbone", "ReceptiveField"]

BACKBONES = {
    backbone.name: backbone
    for backbone in (
        VGG11,
        VGG13,
        VGG16,
        VGG19,
        VGG11_BN,
        VGG13_BN,
        VGG16_BN,
        VGG19_BN,
        ALEXNET,
        SQUEEZENET1_0,
        SQUEEZENET1_1,
        ALEXNET_SHIFT_TOLERANT,
        VGG16_SHIFT_TOLERANT,
    )
}
"""Every backbone, by the name of its weight set."""
