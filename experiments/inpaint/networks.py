"""The network that fills: a U-Net that sees a picture with a hole, and where the hole is.

What it makes is added to a smooth filling of the hole, so that it begins with colours that are
about right, and learns what is to be seen there.

References:
  S. J. Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4 (the smooth filling)
  O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image
  Segmentation", MICCAI 2015, https://arxiv.org/abs/1505.04597
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.common.generators import Network, network
from experiments.common.layers import Convolution
from experiments.common.network_files import Kind
from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.pyramids import gaussian_pyramid

__all__ = ["KIND", "Filler", "multiple", "smooth"]


def smooth(given: Float[Array, "n h w 4"], levels: int) -> Array:
    """Holes filled with the colours around them, the smoother the farther from their edges.

    Colours are averaged where they are known, in ever larger blocks; what is not known of a block
    is that of the blocks twice as large, interpolated, and in the end the mean of the picture.

    Args:
      given: red, green, blue and the hole, in [0, 1].
      levels: how often the sides are halved; they must be multiples of 2 to the power of it.

    Returns:
      [n, h, w, 3].
    """
    known = (given[..., 3:] <= 0.5).astype(given.dtype)
    pyramid = gaussian_pyramid(jnp.concatenate([given[..., :3] * known, known], -1), levels + 1)
    coarsest = pyramid[-1].mean(axis=(1, 2), keepdims=True)
    filled = coarsest[..., :3] / jnp.maximum(coarsest[..., 3:], 1e-6)
    for sums in reversed(pyramid):
        larger = jax.image.resize(filled, (*sums.shape[:3], 3), "linear")
        filled = sums[..., :3] + (1 - sums[..., 3:]) * larger
    return filled


class Filler(nn.Module):
    """Pictures with holes to whole ones: what is not in the hole is kept exactly.

    Before it is trained, the smooth filling.

    Attributes:
      levels: how often the sides are halved; they must be multiples of 2 to the power of it.
      width: how many channels the largest maps have; every halving doubles them, up to 8 times.
    """

    levels: int
    width: int

    @nn.compact
    def __call__(self, given: Float[Array, "n h w 4"], *, training: bool) -> Array:
        """[n, h, w, 4], red, green, blue and the hole, in [0, 1] to [n, h, w, 3], about in it."""
        del training
        hole = given[..., 3:]
        filled = smooth(given, self.levels)
        maps = jnp.concatenate([filled, hole], axis=-1) - 0.5
        maps = nn.relu(Convolution(self.width, name="first")(maps))
        kept = []
        for level in range(1, self.levels + 1):
            kept.append(maps)
            channels = self.width * 2 ** min(level, 3)
            maps = nn.relu(Convolution(channels, stride=2, name=f"down_{level}")(maps))
            maps = nn.relu(Convolution(channels, name=f"down_{level}_b")(maps))
        for level in reversed(range(self.levels)):
            channels = self.width * 2 ** min(level, 3)
            larger = jnp.repeat(jnp.repeat(maps, 2, axis=1), 2, axis=2)
            # The sum of two convolutions is one of what is laid together, without the copy.
            maps = Convolution(channels, name=f"up_{level}")(larger)
            maps = nn.relu(maps + Convolution(channels, name=f"across_{level}")(kept[level]))
        missing = Convolution(3, nn.initializers.zeros, name="pixels")(maps)
        return jnp.where(hole > 0.5, filled + missing, given[..., :3])


def multiple(levels: int) -> int:
    """What the sides of pictures must be multiples of."""
    return 2**levels


def _build(levels: int, width: int) -> Network:
    side = 2 * multiple(levels)
    return network(Filler(levels, width), (1, side, side, 4))


KIND = Kind("inpaint", {"levels": (1, 8), "width": (1, 4096)}, _build)
