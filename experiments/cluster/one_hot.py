"""Clustering by an autoencoder whose code is one-hot: its decoder is one image for each cluster.

The encoder, a small network, chooses one of k images; the loss is the distance of the choice to
what was encoded. k images are all that the decoder can make, so they are embedded once a step and
compared with the whole batch, and a straight-through choice has an exact gradient in each: images
learn from what chose them, and the encoder from how far every image would have been.

Left to itself the encoder soon takes for all the image that is nearest to most, and what is never
chosen never learns. So at first each of the k is cheaper by how far it is from the batch on
average: what counts is to be nearer to one image than to others.

References:
  Y. Bengio, N. Léonard, A. Courville, "Estimating or Propagating Gradients Through Stochastic
  Neurons for Conditional Computation", 2013, https://arxiv.org/abs/1308.3432
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import perceptual_jax as pj
from experiments.cluster.spaces import Points, Space
from perceptual_jax._typing import Array, Key

__all__ = ["State", "Training", "training"]


class Encoder(nn.Module):
    """Images [n, h, w, 3] in [0, 1] -> logits [n, k]."""

    clusters: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = images - 0.5
        for channels in (32, 64, 128):
            x = nn.relu(nn.GroupNorm(8)(nn.Conv(channels, (3, 3), strides=2)(x)))
        return nn.Dense(self.clusters)(x.reshape(x.shape[0], -1))


class State(NamedTuple):
    """Where training is.

    Attributes:
      variables: the encoder's, and the decoder's images [k, h, w, 3] in [0, 1].
      optimiser: the optimiser's state.
    """

    variables: dict[str, Any]
    optimiser: Any


class Training(NamedTuple):
    """Training as pure functions.

    Attributes:
      init: `(key, images [k, h, w, 3]) -> State`, with the decoder's first images.
      step: `(context, state, images [b, h, w, 3], targets, balance) -> (state, loss)`, jitted; the
        targets are the same images as points; `balance`, from 0 to 1, is how much of its mean
        distance each of the k is let off, of which the loss returned knows nothing.
      encode: `(state, images) -> clusters [b]`, jitted.
    """

    init: Callable[[Key, Array], State]
    step: Callable[[Any, State, Array, Points, Array], tuple[State, Array]]
    encode: Callable[[State, Array], Array]


def training(
    distance: pj.Distance,
    space: Space,
    clusters: int,
    *,
    learning_rate: float,
    images_rate: float,
    smoothness: float,
) -> Training:
    """Training by Adam.

    Args:
      distance: the loss.
      space: its embeddings'.
      clusters: k.
      learning_rate: of the encoder.
      images_rate: of the decoder's images.
      smoothness: the weight of these images' total variation.

    Returns:
      The training; its context is `(params, space.context, origin, scale)`: losses are divided by
      the scale, so that one learning rate does for all distances.
    """
    encoder = Encoder(clusters)
    optimiser = optax.multi_transform(
        {"encoder": optax.adam(learning_rate), "images": optax.adam(images_rate)},
        {"encoder": "encoder", "images": "images"},
    )

    def init(key: Key, images: Array) -> State:
        variables = {"encoder": encoder.init(key, images[:1]), "images": images}
        return State(variables, optimiser.init(variables))

    def loss(
        variables: dict, context: Any, images: Array, targets: Points, balance: Array
    ) -> tuple[Array, Array]:
        params, space_context, origin, scale = context
        weight = targets.weight / targets.weight.sum()
        soft = nn.softmax(encoder.apply(variables["encoder"], images))
        hard = jax.nn.one_hot(soft.argmax(axis=-1), clusters, dtype=soft.dtype)
        choice = hard + soft - jax.lax.stop_gradient(soft)
        embedded = distance.embed(params, variables["images"])
        embedded = jax.tree.map(lambda leaf, shift: leaf - shift, embedded, origin)
        far: Array = space.distances(space_context, targets.values, embedded) / scale
        value = (choice * far).sum(axis=-1) @ weight
        rough = pj.total_variation(variables["images"]).mean()
        discount = weight @ choice @ jax.lax.stop_gradient(weight @ far)
        return value - balance * discount + smoothness * rough, value

    @jax.jit
    def step(
        context: Any, state: State, images: Array, targets: Points, balance: Array
    ) -> tuple[State, Array]:
        gradient, value = jax.grad(loss, has_aux=True)(
            state.variables, context, images, targets, balance
        )
        updates, optimiser_state = optimiser.update(gradient, state.optimiser)
        variables = optax.apply_updates(state.variables, updates)
        variables["images"] = jnp.clip(variables["images"], 0.0, 1.0)
        return State(variables, optimiser_state), value

    @jax.jit
    def encode(state: State, images: Array) -> Array:
        return encoder.apply(state.variables["encoder"], images).argmax(axis=-1)

    return Training(init, step, encode)
