"""Window means of random Fourier features, a few features at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.convolution import conv2d
from perceptual_jax.ops.cosine import cos
from perceptual_jax.ops.value_range import at_least_float32
from perceptual_jax.ops.windows import window_means

__all__ = ["cosine_means"]

_BLOCK = 64
"""Features at a time. 1,024 of a 256 px image held at once take 512 MiB, in blocks 33, and their
gradient two thirds of the time on two CPU cores; blocks of 32 take longer, of 256 as long."""


def cosine_means(
    images: Float[Array, "n h w c"],
    filters: Float[Array, "p p c k"],
    phases: Float[Array, " k"],
    window: int | None,
    stride: int,
    precision: jax.lax.Precision,
) -> Float[Array, "n oh ow k"]:
    """The mean of cos(filters * images + phases) over windows, or over the image without any.

    Args:
      images: of which only whole patches count.
      filters: w.
      phases: b.
      window: the side of a window, in places; None for all of them.
      stride: between windows, in places.
      precision: of the convolution.
    """

    @jax.checkpoint
    def of_block(draws: tuple[Array, Array]) -> Array:
        features = cos(conv2d(images, *draws, precision=precision))
        if window is None:
            return at_least_float32(features).mean(axis=(1, 2), keepdims=True)
        return window_means(features, window, stride) if window > 1 else features

    means = jax.lax.map(of_block, (_split(filters), _split(phases)))
    return _joined(means, phases.size)


def _split(values: Array) -> Array:
    """[..., k] as [blocks, ..., block], the last filled with zeros."""
    count = values.shape[-1]
    size = min(_BLOCK, count)
    missing = -count % size
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    blocks = padded.reshape(*values.shape[:-1], (count + missing) // size, size)
    return jnp.moveaxis(blocks, -2, 0)


def _joined(blocks: Array, count: int) -> Array:
    """What `_split` made of [..., count]."""
    joined = jnp.moveaxis(blocks, 0, -2)
    *places, number, size = joined.shape
    return joined.reshape(*places, number * size)[..., :count]
