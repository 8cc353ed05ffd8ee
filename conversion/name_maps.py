"""Whose tensor is whose: one table a network, their names beside ours."""

from __future__ import annotations

__all__ = ["FLAX_MODULES"]

_VGG16 = (
    ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3")
    + ("conv4_1", "conv4_2", "conv4_3", "conv5_1", "conv5_2", "conv5_3")
)  # fmt: skip
_ALEXNET = ("conv1", "conv2", "conv3", "conv4", "conv5")

FLAX_MODULES = {
    "vgg16": ("VGG16_0", {f"Conv_{i}": layer for i, layer in enumerate(_VGG16)}),
    "alexnet": ("AlexNet_0", {f"Conv_{i}": layer for i, layer in enumerate(_ALEXNET)}),
}
"""Flax names its unnamed modules by counting: `{weight set: (module, {their layer: ours})}`.
Kernels are HWIO on both sides."""
