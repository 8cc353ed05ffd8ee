"""The network that enlarges pictures, and its use.

It is SRResNet's without batch normalisation, which super-resolution does better without.
All its layers see the small picture; the last one makes the pixels of each place, scale^2 of them,
which are added to the bicubic enlargement.

References:
  C. Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
  Network", CVPR 2017, https://arxiv.org/abs/1609.04802
  W. Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
  Convolutional Neural Network", CVPR 2016, https://arxiv.org/abs/1609.05158
  B. Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPR Workshops
  2017, https://arxiv.org/abs/1707.02921
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import perceptual_jax as pj
from experiments.common.generators import Network, network
from experiments.common.layers import Convolution
from experiments.common.network_files import Kind
from experiments.super_resolution.tiles import TILE, in_tiles
from perceptual_jax._typing import Array, Float

__all__ = ["KIND", "Enlarger", "enlarged", "enlarger", "margin"]

# A block begins as nearly the identity, so that deep networks train from the first step.
_NEARLY_NOTHING = nn.initializers.variance_scaling(0.02, "fan_in", "truncated_normal")


class Enlarger(nn.Module):
    """Small pictures to large ones; before it is trained, the bicubic enlargement.

    Attributes:
      scale: how many times larger the sides become.
      blocks: how many residual blocks there are.
      width: how many channels the maps have.
    """

    scale: int
    blocks: int
    width: int

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"], *, training: bool) -> Array:
        """[n, h, w, 3] in [0, 1] to [n, scale * h, scale * w, 3], about in [0, 1]."""
        del training
        first = Convolution(self.width, name="first")(images - 0.5)
        maps = first
        for i in range(self.blocks):
            inner = nn.relu(Convolution(self.width, name=f"block_{i}_a")(maps))
            maps = maps + Convolution(self.width, _NEARLY_NOTHING, name=f"block_{i}_b")(inner)
        maps = first + Convolution(self.width, name="middle")(maps)
        pixels = Convolution(3 * self.scale**2, nn.initializers.zeros, name="pixels")(maps)
        return enlarged(images, self.scale) + _shuffled(pixels, self.scale)


def margin(blocks: int) -> int:
    """How far around a place of a small picture what is made of it depends on pixels, at most."""
    # One pixel for each of the 3x3 convolutions in a row; the cubic's two are fewer.
    return 2 * blocks + 3


def enlarged(images: Float[Array, "n h w c"], scale: int) -> Array:
    """The bicubic enlargement: Pillow's, without its rounding.

    Every place has the same weights wherever the picture begins, so that tiles equal the whole;
    those of `jax.image.resize` are off by more the farther right they are.
    """
    rows = _enlarged_rows(images, scale)
    return _enlarged_rows(rows.swapaxes(1, 2), scale).swapaxes(1, 2)


def _enlarged_rows(images: Array, scale: int) -> Array:
    """[n, h, w, c] to [n, scale * h, w, c]."""
    n, height, width, channels = images.shape
    phases = (np.arange(scale) + 0.5) / scale - 0.5
    weights = _cubic(phases[:, None] - np.arange(-2, 3)[None])
    # At the border, the weights of the pixels that there are add up to 1.
    inside = np.pad(np.ones(height), 2)
    sums = np.stack([inside[k : k + height] for k in range(5)]) * weights[:, :, None]
    weights = (weights[:, :, None] / sums.sum(axis=1, keepdims=True)).astype(images.dtype)
    padded = jnp.pad(images, ((0, 0), (2, 2), (0, 0), (0, 0)))
    made = [
        sum(weights[p, k].reshape(1, -1, 1, 1) * padded[:, k : k + height] for k in range(5))
        for p in range(scale)
    ]
    return jnp.stack(made, axis=2).reshape(n, scale * height, width, channels)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic, with the slope -1/2 at 1, as Pillow's."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _shuffled(pixels: Array, scale: int) -> Array:
    """[n, h, w, scale * scale * c] to [n, scale * h, scale * w, c]."""
    n, height, width, channels = pixels.shape
    blocks = pixels.reshape(n, height, width, scale, scale, channels // scale**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, scale * height, scale * width, -1)


# --- Its use -------------------------------------------------------------------------------


def _build(scale: int, blocks: int, width: int) -> Network:
    return network(Enlarger(scale, blocks, width), (1, 8, 8, 3))


KIND = Kind("super-resolution", {"scale": (1, 8), "blocks": (1, 1000), "width": (1, 4096)}, _build)


def enlarger(module: Enlarger, tile: int = TILE) -> Callable[[Any, np.ndarray], np.ndarray]:
    """`(params, uint8 [h, w, 3]) -> uint8 [scale * h, scale * w, 3]`, tile by tile."""
    use = jax.jit(network(module, (1, 8, 8, 3)).use)

    def enlarge(params: Any, picture: np.ndarray) -> np.ndarray:
        made = in_tiles(
            lambda images: use(params, {}, images.astype(np.float32) / 255),
            picture,
            scale=module.scale,
            margin=margin(module.blocks),
            tile=tile,
        )
        return pj.images.to_uint8(made)

    return enlarge
