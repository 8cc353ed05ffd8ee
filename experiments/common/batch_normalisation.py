"""Batch normalisation followed by a ReLU, with a gradient that is written out."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.platform import on_cpu
from perceptual_jax.ops.value_range import at_least_float32

__all__ = ["normalise", "rectify"]

_EPSILON = 1e-5


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    images: Float[Array, "n h w c"],
    scale: Float[Array, " c"],
    shift: Float[Array, " c"],
    slope: float = 0.0,
) -> tuple[Float[Array, "n h w c"], Float[Array, " c"], Float[Array, " c"]]:
    """Batch normalisation by the statistics of these images, then a ReLU.

    The gradient is written out: three passes over the images where the derived one takes eight.
    Images spread over a mesh are one batch. Statistics and all sums are of float32 at least: in
    bfloat16 a mean of more than 256 numbers no longer grows.

    Args:
      images: of any values, [n, h, w, c]; the output is of their dtype.
      scale: of each channel once it is normalised, [c].
      shift: added then, [c].
      slope: of the ReLU where its input is negative.

    Returns:
      Images [n, h, w, c], and each channel's mean and variance, [c]; the gradient runs through
      the images alone.

    References:
      S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
      Internal Covariate Shift", ICML 2015, https://arxiv.org/abs/1502.03167
    """
    return _forward(images, scale, shift, slope)[0]


def rectify(values: Array, slope: float) -> Array:
    """A ReLU with this slope where values are negative."""
    return jax.nn.leaky_relu(values, slope) if slope else jax.nn.relu(values)


def _forward(images: Array, scale: Array, shift: Array, slope: float) -> tuple[Any, Any]:
    flat = at_least_float32(images).reshape(-1, images.shape[-1])
    mean = _column_sums(flat) / len(flat)
    variance = _column_sums(jnp.square(flat - mean[None])) / len(flat)
    rate = jax.lax.rsqrt(variance + _EPSILON)
    output = rectify((flat - mean[None]) * (scale * rate)[None] + shift[None], slope)
    output = output.astype(images.dtype).reshape(images.shape)
    return (output, mean, variance), (images, mean, rate, scale, shift)


def _backward(slope: float, kept: tuple, cotangents: tuple) -> tuple[Array, Array, Array]:
    images, mean, rate, scale, shift = kept
    flat, above = (
        at_least_float32(each).reshape(-1, each.shape[-1]) for each in (images, cotangents[0])
    )
    standard = (flat - mean[None]) * rate[None]
    below = slope * above if slope else jnp.zeros((), above.dtype)
    steep = jnp.where(standard * scale[None] + shift[None] > 0, above, below)
    of_shift, of_scale = _column_sums(steep), _column_sums(steep * standard)
    centred = steep - (of_shift[None] + standard * of_scale[None]) / len(flat)
    of_images = (centred * (scale * rate)[None]).astype(images.dtype)
    return of_images.reshape(images.shape), of_scale, of_shift


normalise.defvjp(_forward, _backward)


def _column_sums(rows: Array, parts: int = 16) -> Array:
    """Over the leading axis, which XLA's CPU backend would walk column by column."""
    # Halves of what is spread over devices would have to be moved between them.
    while on_cpu() and jax.device_count() == 1 and len(rows) % parts == 0:
        rows = reduce(jnp.add, jnp.split(rows, parts))
    return rows.sum(axis=0)
