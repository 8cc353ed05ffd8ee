"""Window means of random Fourier features, a few features at a time."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.convolution import conv2d
from perceptual_jax.ops.cosine import cos
from perceptual_jax.ops.windows import window_means

__all__ = ["cosine_means"]

_BLOCK = 64
"""Features at a time. 1,024 of a 256 px image held at once take 512 MiB, in blocks 33, and their
gradient two thirds of the time on two CPU cores; blocks of 32 take longer, of 256 as long."""


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
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
    draws = (_split(filters), _split(phases))
    means = jax.lax.map(lambda block: _means(images, block, window, stride, precision), draws)
    return _joined(means, phases.size)


def _forward(images: Array, filters: Array, phases: Array, *options: Any) -> Any:
    return cosine_means(images, filters, phases, *options), (images, filters, phases)


def _backward(
    window: int | None,
    stride: int,
    precision: jax.lax.Precision,
    inputs: tuple[Array, Array, Array],
    cotangent: Array,
) -> tuple[Array, Array, Array]:
    images, filters, phases = inputs

    def of_block(in_images: Array, block: tuple[Array, Array, Array]) -> tuple[Array, Any]:
        *draws, here = block
        _, pullback = jax.vjp(
            lambda x, wb: _means(x, wb, window, stride, precision), images, tuple(draws)
        )
        to_images, to_draws = pullback(here)
        return in_images + to_images, to_draws

    blocks = (_split(filters), _split(phases), _split(cotangent))
    in_images, (in_filters, in_phases) = jax.lax.scan(of_block, jnp.zeros_like(images), blocks)
    return in_images, _joined(in_filters, phases.size), _joined(in_phases, phases.size)


cosine_means.defvjp(_forward, _backward)


def _means(
    images: Array,
    draws: tuple[Array, Array],
    window: int | None,
    stride: int,
    precision: jax.lax.Precision,
) -> Array:
    """All features at once."""
    features = cos(conv2d(images, *draws, precision=precision))
    if window is None:
        return features.mean(axis=(1, 2), keepdims=True)
    return window_means(features, window, stride) if window > 1 else features


def _split(values: Array) -> Array:
    """[..., k] as [blocks, ..., block], the last filled with zeros."""
    count = values.shape[-1]
    size = min(_BLOCK, count)
    missing = -count % size
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
    return jnp.moveaxis(padded.reshape(*values.shape[:-1], -1, size), -2, 0)


def _joined(blocks: Array, count: int) -> Array:
    """What `_split` made of [..., count]."""
    joined = jnp.moveaxis(blocks, 0, -2)
    return joined.reshape(*joined.shape[:-2], -1)[..., :count]
