"""Patches drawn to please a channel: what it answers most to, of all there could be.

The unknowns are Fourier coefficients; the image is moved by a few pixels at every step, and kept
smooth.

References:
  D. Erhan, Y. Bengio, A. Courville, P. Vincent, "Visualizing Higher-Layer Features of a Deep
  Network", 2009.
  C. Olah, A. Mordvintsev, L. Schubert, "Feature Visualization", Distill 2017,
  https://distill.pub/2017/feature-visualization/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import perceptual_jax as pj
from experiments.activations.units import Network
from experiments.common.loop import chunk_length
from experiments.common.mesh import shard_leading
from experiments.common.networks import before_relu
from experiments.common.spectrum import image_of, noise_spectrum
from perceptual_jax._typing import Array, Key
from perceptual_jax.distances.features import imagenet_normalised

__all__ = ["Patch", "maximised"]

_LARGEST = 96
"""The units of deep layers see 200 pixels, but most of what they answer to is in the middle."""


class Patch(NamedTuple):
    """What was drawn for a channel.

    Attributes:
      image: [side, side, 3] in [0, 1].
      answer: of the channel's middle unit, before its ReLU.
    """

    image: np.ndarray
    answer: float


def maximised(
    network: Network,
    layer: str,
    channels: Sequence[int],
    *,
    steps: int,
    learning_rate: float,
    smoothness: float,
    key: Key,
    advance_bar: Callable[[int], None],
) -> list[Patch]:
    """Draws a patch for each channel, all of them side by side.

    Args:
      network: whose.
      layer: its layer; of one after a ReLU, what goes into the ReLU is made large, which has a
        slope where the unit is silent.
      channels: of the layer.
      steps: of Adam.
      learning_rate: of Adam, on the coefficients.
      smoothness: the weight of the total variation; that of the answer is 1 over its size.
      key: of the first coefficients and of the movements.
      advance_bar: is told of steps taken.
    """
    backbone = network.backbone
    layer = before_relu(backbone, layer)
    field = backbone.receptive_field(layer)
    smallest = backbone.smallest_input((layer,))
    side = max(min(field.size, _LARGEST), smallest)
    jitter = min(8, side // 8)
    side += 2 * jitter
    chosen = np.asarray(channels)
    optimiser = optax.adam(learning_rate)

    def answers(params: Any, images: Array) -> Array:
        normalised = imagenet_normalised(2 * images - 1)
        found = backbone.features(params, normalised, (layer,))[layer]
        middle = found[:, found.shape[1] // 2, found.shape[2] // 2]
        return middle[np.arange(len(chosen)), chosen]

    def loss(spectrum: Array, params: Any, shift: Array) -> Array:
        images = image_of(spectrum, side)
        found = answers(params, jnp.roll(images, shift, axis=(1, 2)))
        # Relative to the answer: some are a hundred times those of other layers.
        size = jax.lax.stop_gradient(jnp.maximum(jnp.abs(found), 1.0))
        return (smoothness * pj.total_variation(images) - found / size).sum()

    def step(carry: tuple, number: Array, params: Any) -> tuple:
        spectrum, state = carry
        drawn = jax.random.fold_in(key, number)
        shift = jax.random.randint(drawn, (2,), -jitter, jitter + 1)
        updates, state = optimiser.update(jax.grad(loss)(spectrum, params, shift), state)
        return optax.apply_updates(spectrum, updates), state

    @partial(jax.jit, static_argnums=2)
    def advance(carry: tuple, first: Array, length: int, params: Any) -> tuple:
        if length == 1:
            return step(carry, first, params)
        return jax.lax.scan(
            lambda state, number: (step(state, number, params), None),
            carry,
            first + jnp.arange(length),
        )[0]

    spectrum = noise_spectrum(jax.random.fold_in(key, steps), len(chosen), side)
    carry = shard_leading((spectrum, optimiser.init(spectrum)), len(chosen))
    done = 0
    while done < steps:
        length = min(chunk_length(), steps - done)
        carry = advance(carry, jnp.asarray(done), length, network.params)
        done += length
        advance_bar(length)
    images = image_of(carry[0], side)
    values = jax.jit(answers)(network.params, images)
    return [
        Patch(np.asarray(image), float(value)) for image, value in zip(images, values, strict=True)
    ]
