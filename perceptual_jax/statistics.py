"""Measures of images and of sets of images that are not distances of pairs."""

from __future__ import annotations

import jax.numpy as jnp

from perceptual_jax._typing import Array, Float, ImageLike, ValueRange
from perceptual_jax.ops.value_range import UNIT, mapper

__all__ = ["gradient_energy", "relative_sharpness"]


def gradient_energy(
    images: ImageLike, *, value_range: ValueRange = (0.0, 1.0)
) -> Float[Array, " n"]:
    """Mean squared forward differences: mean (dx)^2 + mean (dy)^2, on the [0, 1] scale.

    Blur lowers it; noise raises it as detail does, so look at the picture too.

    Args:
      images: [n, h, w, c], at least 2x2 pixels.
      value_range: (low, high) of float images.

    Returns:
      One number per image, [n], at least 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from perceptual_jax.statistics import gradient_energy
      >>> ramp = jnp.broadcast_to(jnp.arange(5.0)[None, None, :, None] / 4, (1, 5, 5, 3))
      >>> gradient_energy(ramp).tolist()
      [0.0625]
    """
    images = mapper("gradient_energy", value_range, UNIT, min_size=(2, 2))(images)
    dx, dy = jnp.diff(images, axis=2), jnp.diff(images, axis=1)
    return jnp.square(dx).mean(axis=(1, 2, 3)) + jnp.square(dy).mean(axis=(1, 2, 3))


def relative_sharpness(
    images: ImageLike, references: ImageLike, *, value_range: ValueRange = (0.0, 1.0)
) -> Float[Array, " n"]:
    """Gradient energy of each image relative to the mean energy of the references.

    1 is as sharp as the references, less is blurrier.

    Args:
      images: [n, h, w, c].
      references: [m, h', w', c].
      value_range: (low, high) of float images.

    Returns:
      One number per image, [n]; infinite, or NaN for a flat image, if all references are flat.
    """
    energy = gradient_energy(images, value_range=value_range)
    return energy / gradient_energy(references, value_range=value_range).mean()
