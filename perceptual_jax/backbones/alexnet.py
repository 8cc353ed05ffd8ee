"""AlexNet in its one-column form.

References:
  A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014,
  https://arxiv.org/abs/1404.5997
"""

from __future__ import annotations

from perceptual_jax.backbones.network import AdaptiveAveragePool, Backbone, Conv, MaxPool, ReLU

__all__ = ["ALEXNET"]

ALEXNET = Backbone(
    "alexnet",
    (
        Conv("conv1", 3, 64, size=11, stride=4, padding=2),
        ReLU("relu1"),
        MaxPool("pool1", size=3, stride=2),
        Conv("conv2", 64, 192, size=5, padding=2),
        ReLU("relu2"),
        MaxPool("pool2", size=3, stride=2),
        Conv("conv3", 192, 384, size=3, padding=1),
        ReLU("relu3"),
        Conv("conv4", 384, 256, size=3, padding=1),
        ReLU("relu4"),
        Conv("conv5", 256, 256, size=3, padding=1),
        ReLU("relu5"),
        MaxPool("pool5", size=3, stride=2),
    ),
    (
        AdaptiveAveragePool("avgpool", size=6),
        Conv("fc6", 256, 4096, size=6),
        ReLU("relu6"),
        Conv("fc7", 4096, 4096, size=1),
        ReLU("relu7"),
        Conv("fc8", 4096, 1000, size=1),
    ),
)
"""Layers conv1 (before ReLU), relu1, pool1, ..., conv5, relu5, pool5."""
