"""Which pixels an answer comes from: its gradient, plain and guided.

References:
  K. Simonyan, A. Vedaldi, A. Zisserman, "Deep Inside Convolutional Networks", ICLR workshop 2014,
  https://arxiv.org/abs/1312.6034
  J. T. Springenberg, A. Dosovitskiy, T. Brox, M. Riedmiller, "Striving for Simplicity: The All
  Convolutional Net", ICLR workshop 2015, https://arxiv.org/abs/1412.6806
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.activations.units import Network, Unit
from perceptual_jax._typing import Array
from perceptual_jax.backbones import Backbone
from perceptual_jax.backbones.network import LayerParams
from perceptual_jax.distances.features import imagenet_normalised
from perceptual_jax.ops.safe import positive_part

__all__ = ["guided_positive_part", "unit_gradients"]


@jax.custom_vjp
def guided_positive_part(x: Array) -> Array:
    """max(x, 0), whose gradient passes where both x and the gradient itself are positive.

    What would make the answer smaller is left out on the way back, layer by layer, so that what
    is left shows what the unit looks for.
    """
    return positive_part(x)


def _forward(x: Array) -> tuple[Array, Array]:
    return positive_part(x), x > 0


def _backward(positive: Array, gradient: Array) -> tuple[Array]:
    return (jnp.where(positive & (gradient > 0), gradient, 0.0),)


guided_positive_part.defvjp(_forward, _backward)


def unit_gradients(
    network: Network,
    images: np.ndarray,
    layer: str,
    channel: int,
    units: Sequence[Unit],
    rectify: Callable[[Array], Array] = positive_part,
) -> np.ndarray:
    """The gradient of each unit's answer by the image that it answers to.

    Args:
      network: whose.
      images: [n, h, w, 3] in [0, 1].
      layer: its layer.
      channel: of the layer.
      units: of the channel; their images are numbers into `images`.
      rectify: the rule in place of ReLU: `guided_positive_part` for guided backpropagation.

    Returns:
      [units, h, w, 3].
    """
    backbone = network.backbone.with_rectifier(rectify)
    gradients = [
        _gradient(
            backbone,
            network.params,
            images[unit.image : unit.image + 1],
            layer,
            np.asarray([unit.row, unit.column, channel]),
        )
        for unit in units
    ]
    return np.concatenate([np.zeros((0, *images.shape[1:]), images.dtype), *gradients])


@partial(jax.jit, static_argnums=(0, 3))
def _gradient(
    backbone: Backbone, params: LayerParams, image: Array, layer: str, place: Array
) -> Array:
    def answer(image: Array) -> Array:
        normalised = imagenet_normalised(2 * image - 1)
        return backbone.features(params, normalised, (layer,))[layer][0, *place]

    return jax.grad(answer)(image)
