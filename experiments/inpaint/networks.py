"""The network that fills: a U-Net that sees a picture with a hole, and where the hole is.

References:
  O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image
  Segmentation", MICCAI 2015, https://arxiv.org/abs/1505.04597
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn

from experiments.common.generators import Network, network
from experiments.common.layers import Convolution
from experiments.common.network_files import Kind
from perceptual_jax._typing import Array, Float

__all__ = ["KIND", "Filler", "multiple"]


class Filler(nn.Module):
    """Pictures with holes to whole ones: what is not in the hole is kept exactly.

    Attributes:
      levels: how often the sides are halved; they must be multiples of 2 to the power of it.
      width: how many channels the largest maps have; every halving doubles them, up to 8 times.
    """

    levels: int
    width: int

    @nn.compact
    def __call__(self, given: Float[Array, "n h w 4"], *, training: bool) -> Array:
        """[n, h, w, 4], red, green, blue and the hole, in [0, 1] to [n, h, w, 3]."""
        del training
        picture, hole = given[..., :3], given[..., 3:]
        maps = nn.relu(Convolution(self.width, name="first")(given - 0.5))
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
        made = nn.sigmoid(Convolution(3, name="pixels")(maps))
        return jnp.where(hole > 0.5, made, picture)


def multiple(levels: int) -> int:
    """What the sides of pictures must be multiples of."""
    return 2**levels


def _build(levels: int, width: int) -> Network:
    side = 2 * multiple(levels)
    return network(Filler(levels, width), (1, side, side, 4))


KIND = Kind("inpaint", {"levels": (1, 8), "width": (1, 4096)}, _build)
