"""VGG-16 (configuration D), convolutions only.

References:
  K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
  Recognition", ICLR 2015, https://arxiv.org/abs/1409.1556
"""

from __future__ import annotations

from perceptual_jax.backbones.network import Backbone, Conv, MaxPool, ReLU

__all__ = ["VGG16"]


def _vgg(name: str, blocks: tuple[tuple[int, int], ...]) -> Backbone:
    """The table of blocks of (number of 3x3 convolutions, channels), each ending in a 2x2 pool."""
    layers: list[Conv | ReLU | MaxPool] = []
    inputs = 3
    for block, (convolutions, outputs) in enumerate(blocks, start=1):
        for index in range(1, convolutions + 1):
            layers.append(Conv(f"conv{block}_{index}", inputs, outputs, size=3, padding=1))
            layers.append(ReLU(f"relu{block}_{index}"))
            inputs = outputs
        layers.append(MaxPool(f"pool{block}", size=2, stride=2))
    return Backbone(name, tuple(layers))


VGG16 = _vgg("vgg16", ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)))
"""Layers conv1_1 (before ReLU), relu1_1, ..., pool1, ..., conv5_3, relu5_3, pool5."""
