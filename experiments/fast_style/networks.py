"""The network that draws photographs in one style, in one pass.

Strided convolutions, residual blocks, and enlargements, each followed by a convolution, which leave
no checkerboard where transposed ones do. Every map is normalised by itself, image by image.

References:
  J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
  Super-Resolution", ECCV 2016, https://arxiv.org/abs/1603.08155
  D. Ulyanov, A. Vedaldi, V. Lempitsky, "Improved Texture Networks", CVPR 2017,
  https://arxiv.org/abs/1701.02096: instance normalisation.
  A. Odena, V. Dumoulin, C. Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import perceptual_jax as pj
from experiments.common.generators import Network, network
from experiments.common.layers import KAIMING, Convolution
from experiments.common.network_files import Kind
from perceptual_jax._typing import Array, Float

__all__ = ["KIND", "Stylist", "stylised"]

_AROUND = 16
"""Pixels mirrored around a photograph, so that its border is drawn as its middle is."""


class Stylist(nn.Module):
    """Photographs to pictures in a style.

    Attributes:
      width: how many channels the largest maps have; the others have two and four times as many.
      blocks: how many residual blocks there are.
    """

    width: int
    blocks: int

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"], *, training: bool) -> Array:
        """[n, h, w, 3] in [0, 1] to [n, h, w, 3] in [0, 1]; the sides are multiples of 4."""
        del training
        around = ((0, 0), (_AROUND, _AROUND), (_AROUND, _AROUND), (0, 0))
        maps = jnp.pad(images, around, mode="reflect") - 0.5
        maps = self._drawn(maps, "first", self.width, size=9)
        maps = self._drawn(maps, "half", 2 * self.width, stride=2)
        maps = self._drawn(maps, "quarter", 4 * self.width, stride=2)
        for i in range(self.blocks):
            inner = self._drawn(maps, f"block_{i}_a", 4 * self.width)
            maps = maps + self._drawn(inner, f"block_{i}_b", 4 * self.width, rectify=False)
        maps = self._drawn(_doubled(maps), "half_again", 2 * self.width)
        maps = self._drawn(_doubled(maps), "whole", self.width)
        made = nn.sigmoid(_Pixels(9, name="pixels")(maps))
        return made[:, _AROUND:-_AROUND, _AROUND:-_AROUND]

    def _drawn(
        self,
        maps: Array,
        name: str,
        channels: int,
        *,
        size: int = 3,
        stride: int = 1,
        rectify: bool = True,
    ) -> Array:
        maps = Convolution(channels, size=size, stride=stride, name=name)(maps)
        maps = _Normalised(name=f"{name}_normalised")(maps)
        return nn.relu(maps) if rectify else maps


class _Pixels(nn.Module):
    """A convolution to three channels, along the rows first; then its rows are added up.

    XLA is slow on CPU where many pixels of a large kernel come to few channels: from 16 channels of
    four maps of 160 x 160 pixels, with both gradients, 404 ms instead of 134 (2 cores).
    """

    size: int

    @nn.compact
    def __call__(self, maps: Array) -> Array:
        size, channels = self.size, maps.shape[-1]
        bias = self.param("bias", nn.initializers.zeros, (3,))
        kernel = self.param("kernel", KAIMING, (size, size, channels, 3))
        # [row, column, channel, output] to [1, column, channel, (row, output)]
        rows = kernel.transpose(1, 2, 0, 3).reshape(1, size, channels, 3 * size)
        around = size // 2
        padded = jnp.pad(maps, ((0, 0), (around, around), (around, around), (0, 0)))
        along = jax.lax.conv_general_dilated(
            padded, rows, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        height = maps.shape[1]
        each = [along[:, i : i + height, :, 3 * i : 3 * i + 3] for i in range(size)]
        return sum(each, bias.reshape(1, 1, 1, 3))


class _Normalised(nn.Module):
    """Every map of every image less its mean, over its deviation; then scaled and shifted."""

    @nn.compact
    def __call__(self, maps: Array) -> Array:
        channels = (1, 1, 1, maps.shape[-1])
        scale = self.param("scale", nn.initializers.ones, channels)
        shift = self.param("shift", nn.initializers.zeros, channels)
        centred = maps - maps.mean(axis=(1, 2), keepdims=True)
        variance = jnp.square(centred).mean(axis=(1, 2), keepdims=True)
        return centred * (scale * jax.lax.rsqrt(variance + 1e-5)) + shift


def _doubled(maps: Array) -> Array:
    return jnp.repeat(jnp.repeat(maps, 2, axis=1), 2, axis=2)


def stylised(use: jax.stages.Wrapped, params: object, picture: np.ndarray) -> np.ndarray:
    """A photograph of any size in the style.

    Args:
      use: the network's, jitted: compiled once for each size.
      params: its params.
      picture: uint8 [h, w, 3], at least 17 pixels a side.

    Returns:
      uint8 [h, w, 3].
    """
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="reflect")
    made = use(params, {}, np.float32(1 / 255) * padded[None])
    return pj.images.to_uint8(made)[0, :height, :width]


def _build(width: int, blocks: int) -> Network:
    return network(Stylist(width, blocks), (1, 32, 32, 3))


KIND = Kind("fast-style", {"width": (1, 4096), "blocks": (0, 1000)}, _build)
