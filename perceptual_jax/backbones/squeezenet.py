"""SqueezeNet 1.0 and 1.1.

References:
  F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB
  model size", 2016, https://arxiv.org/abs/1602.07360
"""

from __future__ import annotations

from perceptual_jax.backbones.network import (
    AdaptiveAveragePool,
    Backbone,
    Conv,
    Fire,
    MaxPool,
    ReLU,
)

__all__ = ["SQUEEZENET1_0", "SQUEEZENET1_1"]

_CLASSIFIER = (
    Conv("conv10", 512, 1000, size=1),
    ReLU("relu10"),
    AdaptiveAveragePool("avgpool", size=1),
)

SQUEEZENET1_0 = Backbone(
    "squeezenet1_0",
    (
        Conv("conv1", 3, 96, size=7, stride=2),
        ReLU("relu1"),
        MaxPool("pool1", size=3, stride=2, ceil=True),
        Fire("fire2", 96, squeeze=16, expand=64),
        Fire("fire3", 128, squeeze=16, expand=64),
        Fire("fire4", 128, squeeze=32, expand=128),
        MaxPool("pool4", size=3, stride=2, ceil=True),
        Fire("fire5", 256, squeeze=32, expand=128),
        Fire("fire6", 256, squeeze=48, expand=192),
        Fire("fire7", 384, squeeze=48, expand=192),
        Fire("fire8", 384, squeeze=64, expand=256),
        MaxPool("pool8", size=3, stride=2, ceil=True),
        Fire("fire9", 512, squeeze=64, expand=256),
    ),
    _CLASSIFIER,
)
"""Layers conv1 (before ReLU), relu1, pool1, fire2 (after ReLU), ..., fire9."""

SQUEEZENET1_1 = Backbone(
    "squeezenet1_1",
    (
        Conv("conv1", 3, 64, size=3, stride=2),
        ReLU("relu1"),
        MaxPool("pool1", size=3, stride=2, ceil=True),
        Fire("fire2", 64, squeeze=16, expand=64),
        Fire("fire3", 128, squeeze=16, expand=64),
        MaxPool("pool3", size=3, stride=2, ceil=True),
        Fire("fire4", 128, squeeze=32, expand=128),
        Fire("fire5", 256, squeeze=32, expand=128),
        MaxPool("pool5", size=3, stride=2, ceil=True),
        Fire("fire6", 256, squeeze=48, expand=192),
        Fire("fire7", 384, squeeze=48, expand=192),
        Fire("fire8", 384, squeeze=64, expand=256),
        Fire("fire9", 512, squeeze=64, expand=256),
    ),
    _CLASSIFIER,
)
"""Layers conv1 (before ReLU), relu1, pool1, fire2 (after ReLU), ..., fire9."""
