"""VGG-11, 13, 16 and 19 (configurations A, B, D and E).

References:
  K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
  Recognition", ICLR 2015, https://arxiv.org/abs/1409.1556
"""

from __future__ import annotations

from perceptual_jax.backbones.network import (
    AdaptiveAveragePool,
    Backbone,
    Conv,
    FeatureLayer,
    MaxPool,
    ReLU,
)

__all__ = ["VGG11", "VGG11_BN", "VGG13", "VGG13_BN", "VGG16", "VGG16_BN", "VGG19", "VGG19_BN"]

_CHANNELS = (64, 128, 256, 512, 512)
_CLASSIFIER = (
    AdaptiveAveragePool("avgpool", size=7),
    Conv("fc6", 512, 4096, size=7),
    ReLU("relu6"),
    Conv("fc7", 4096, 4096, size=1),
    ReLU("relu7"),
    Conv("fc8", 4096, 1000, size=1),
)


def _vgg(name: str, depths: tuple[int, int, int, int, int]) -> Backbone:
    """The table of blocks of so many 3x3 convolutions, each block ending in a 2x2 pool."""
    layers: list[FeatureLayer] = []
    inputs = 3
    for block, (convolutions, outputs) in enumerate(zip(depths, _CHANNELS, strict=True), start=1):
        for index in range(1, convolutions + 1):
            layers.append(Conv(f"conv{block}_{index}", inputs, outputs, size=3, padding=1))
            layers.append(ReLU(f"relu{block}_{index}"))
            inputs = outputs
        layers.append(MaxPool(f"pool{block}", size=2, stride=2))
    return Backbone(name, tuple(layers), _CLASSIFIER)


VGG11 = _vgg("vgg11", (1, 1, 2, 2, 2))
"""Layers conv1_1, relu1_1, pool1, ..., conv5_2, relu5_2, pool5."""
VGG13 = _vgg("vgg13", (2, 2, 2, 2, 2))
"""Layers conv1_1, relu1_1, conv1_2, ..., conv5_2, relu5_2, pool5."""
VGG16 = _vgg("vgg16", (2, 2, 3, 3, 3))
"""Layers conv1_1 (before ReLU), relu1_1, ..., pool1, ..., conv5_3, relu5_3, pool5."""
VGG19 = _vgg("vgg19", (2, 2, 4, 4, 4))
"""Layers conv1_1, relu1_1, conv1_2, ..., conv5_4, relu5_4, pool5."""

# Batch normalisation is folded into kernels and biases when weights are converted: what is left
# is the plain network, with other weights, and conv1_1 is what the normalisation gives.
VGG11_BN = VGG11._replace(name="vgg11_bn")
"""The layers of VGG-11, trained with batch normalisation."""
VGG13_BN = VGG13._replace(name="vgg13_bn")
"""The layers of VGG-13, trained with batch normalisation."""
VGG16_BN = VGG16._replace(name="vgg16_bn")
"""The layers of VGG-16, trained with batch normalisation."""
VGG19_BN = VGG19._replace(name="vgg19_bn")
"""The layers of VGG-19, trained with batch normalisation."""
