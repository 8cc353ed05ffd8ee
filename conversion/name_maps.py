"""Whose tensor is whose: one table a network, their names beside ours."""

from __future__ import annotations

__all__ = ["FLAX_MODULES"]

_VGG16 = tuple(
    f"conv{block}_{index}"
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1)
    for index in range(1, convolutions + 1)
)
_ALEXNET = ("conv1", "conv2", "conv3", "conv4", "conv5")

FLAX_MODULES = {
    "vgg16": ("VGG16_0", {f"Conv_{i}": layer for i, layer in enumerate(_VGG16)}),
    "alexnet": ("AlexNet_0", {f"Conv_{i}": layer for i, layer in enumerate(_ALEXNET)}),
}
"""Flax names its unnamed modules by counting: `{weight set: (module, {their layer: ours})}`.
Kernels are HWIO on both sides."""
