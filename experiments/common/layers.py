"""Layers of the networks that make pictures of pictures."""

from __future__ import annotations

from flax import linen as nn

from perceptual_jax._typing import Array
from perceptual_jax.ops.convolution import conv2d

__all__ = ["KAIMING", "Convolution"]

KAIMING = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
"""Kernels that keep the size of what passes through them and a ReLU."""


class Convolution(nn.Module):
    """To as many pixels; or, with a stride of 2, to half as many on each side."""

    channels: int
    kernel: nn.initializers.Initializer = KAIMING
    stride: int = 1
    size: int = 3

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[n, h, w, c] to [n, h / stride, w / stride, channels]."""
        shape = (self.size, self.size, images.shape[-1], self.channels)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        kernel = self.param("kernel", self.kernel, shape)
        return conv2d(images, kernel, bias, stride=self.stride, padding=self.size // 2)
