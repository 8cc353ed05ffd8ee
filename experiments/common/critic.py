"""The network that tells pictures that were made from real ones, patch by patch.

References:
  P. Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017,
  https://arxiv.org/abs/1611.07004: patches.
  T. Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018,
  https://arxiv.org/abs/1802.05957
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.common.layers import KAIMING
from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.convolution import conv2d

__all__ = ["Critic"]

_HIGHEST = jax.lax.Precision.HIGHEST


class Critic(nn.Module):
    """Pictures to logits, one for every patch: high for real ones.

    Every layer is divided by its greatest singular value, which holds its steps in bounds.

    Attributes:
      widths: how many channels the maps of each half of the sides have.
    """

    widths: tuple[int, ...] = (32, 64, 128)

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"], *, training: bool) -> Array:
        """[n, h, w, 3] in [0, 1] to [n, h', w', 1]."""
        maps = 2 * images - 1
        for i, channels in enumerate(self.widths):
            layer = _Bounded(channels, size=4, stride=2, name=f"layer_{i}")
            maps = nn.leaky_relu(layer(maps, training=training), 0.2)
        return _Bounded(1, size=3, stride=1, name="logits")(maps, training=training)


class _Bounded(nn.Module):
    """A convolution whose kernel, as a matrix, has about the norm 1."""

    channels: int
    size: int
    stride: int

    @nn.compact
    def __call__(self, images: Array, *, training: bool) -> Array:
        shape = (self.size, self.size, images.shape[-1], self.channels)
        kernel = self.param("kernel", KAIMING, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        seed = jax.random.key(0)
        left = self.variable("running", "left", jax.random.normal, seed, (self.channels,))
        matrix = kernel.reshape(-1, self.channels)
        # One round of the power method a step: the kernel moves little between two.
        still = jax.lax.stop_gradient(matrix)
        right = _unit(jnp.matmul(still, left.value, precision=_HIGHEST))
        vector = _unit(jnp.matmul(right, still, precision=_HIGHEST))
        if training and not self.is_initializing():
            left.value = vector
        norm = jnp.einsum("i,ij,j->", right, matrix, vector, precision=_HIGHEST)
        return conv2d(images, kernel / norm, bias, stride=self.stride, padding=1)


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)
