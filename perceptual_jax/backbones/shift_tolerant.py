"""AlexNet and VGG-16 that pool without aliasing: an image shifted by a pixel looks the same.

References:
  A. Ghildyal, F. Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022,
  https://arxiv.org/abs/2207.13686
  R. Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from perceptual_jax._typing import Array
from perceptual_jax.backbones.network import (
    Backbone,
    Conv,
    FeatureLayer,
    LayerParams,
    MaxPool,
    ReceptiveField,
    ReLU,
)
from perceptual_jax.backbones.vgg import VGG16
from perceptual_jax.ops.filters import filter_separable, pad_reflect

__all__ = ["ALEXNET_SHIFT_TOLERANT", "VGG16_SHIFT_TOLERANT"]


class BlurPool(NamedTuple):
    """A 3x3 binomial blur, the border mirrored by 2, then every other place."""

    name: str

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """None."""
        return ()

    def apply(self, params: LayerParams, x: Array, precision: jax.lax.Precision) -> Array:
        """[n, h, w, c] -> [n, (h + 1) // 2 + 1, (w + 1) // 2 + 1, c]."""
        return filter_separable(pad_reflect(x, 2), np.array([0.25, 0.5, 0.25]), stride=2)

    def field(self, inputs: ReceptiveField) -> ReceptiveField:
        """The receptive field, given that of the layer before."""
        return inputs.after(3, 2, 2)

    def smallest_input(self, side: int) -> int:
        """The least side that gives an output of this side."""
        return max(1, 2 * side - 3)


ALEXNET_SHIFT_TOLERANT = Backbone(
    "alexnet-shift-tolerant",
    (
        Conv("conv1", 3, 64, size=11, padding=2),
        BlurPool("blur1"),
        ReLU("relu1"),
        MaxPool("max1", size=3, stride=1),
        BlurPool("pool1"),
        Conv("conv2", 64, 192, size=5, padding=2),
        ReLU("relu2"),
        MaxPool("max2", size=3, stride=1),
        BlurPool("pool2"),
        Conv("conv3", 192, 384, size=3, padding=1),
        ReLU("relu3"),
        Conv("conv4", 384, 256, size=3, padding=1),
        ReLU("relu4"),
        Conv("conv5", 256, 256, size=3, padding=1),
        ReLU("relu5"),
    ),
)
"""AlexNet's layers, where every stride is a blur: blur1 after conv1, pool1 after max1, pool2."""


def _without_aliasing(layer: FeatureLayer) -> tuple[FeatureLayer, ...]:
    """A 2x2 pool as a maximum at every place, and a blur that takes every other one."""
    if not isinstance(layer, MaxPool):
        return (layer,)
    return (MaxPool(layer.name.replace("pool", "max"), layer.size, stride=1), BlurPool(layer.name))


VGG16_SHIFT_TOLERANT = Backbone(
    "vgg16-shift-tolerant",
    # Up to relu5_3: nothing is compared after it.
    tuple(found for layer in VGG16.layers[:-1] for found in _without_aliasing(layer)),
)
"""VGG-16's layers, and max1, ... before pool1, ..."""
