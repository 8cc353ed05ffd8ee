"""Structural similarity, on images in [0, 1]."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_maps
from perceptual_jax.errors import choice
from perceptual_jax.ops.filters import filter_separable, gaussian_kernel
from perceptual_jax.ops.value_range import UNIT, at_least_float32, mapper
from perceptual_jax.ops.windows import window_means

__all__ = [
    "C1",
    "C2",
    "LUMA",
    "PRESETS",
    "Preset",
    "dissimilarities",
    "moments",
    "ssim",
    "weighted_channels",
]


class Preset(NamedTuple):
    """What implementations of SSIM differ in.

    Attributes:
      window: the separable window [k], of sum 1.
      unbiased: sample covariances (divided by count - 1), not population ones.
      gray: the weights of red, green and blue, and what is added; None compares each channel.
      shrink: means of f x f pixels first, f = round(shorter side / 256).
    """

    window: np.ndarray
    unbiased: bool = False
    gray: tuple[float, float, float, float] | None = None
    shrink: bool = False


_GAUSSIAN = gaussian_kernel(11, 1.5)
LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255, 16 / 255)
"""Y of YCbCr (ITU-R BT.601) in [16/255, 235/255], of R, G, B in [0, 1]."""

PRESETS = {
    "wang2004": Preset(_GAUSSIAN),
    "tensorflow": Preset(_GAUSSIAN),
    "skimage": Preset(np.full(7, 1 / 7), unbiased=True),
    "matlab": Preset(_GAUSSIAN, gray=(0.2989, 0.5870, 0.1140, 0.0), shrink=True),
    "luma": Preset(_GAUSSIAN, gray=LUMA),
}
"""The paper's 11x11 Gaussian on each channel, and so TensorFlow's; scikit-image's default, a 7x7
uniform window; the authors' MATLAB code, on gray images of about 256 px; and on luma, as
super-resolution reports it."""

C1, C2 = 0.01**2, 0.03**2
"""SSIM's constants, for images in [0, 1]."""


def ssim(
    *,
    preset: str = "wang2004",
    name: str = "ssim",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """1 - SSIM, the mean over whole windows and over channels.

        SSIM = (2 mx my + C1)(2 sxy + C2) / ((mx^2 + my^2 + C1)(sx^2 + sy^2 + C2))

    with windowed means m, variances s^2 and covariance sxy; C1 = .01^2 and C2 = .03^2.

    Args:
      preset: which published variant to be equal to: "wang2004", "tensorflow", "skimage",
        "matlab" or "luma".
      name: the canonical spec.
      value_range: (low, high) of float images, at least as large as the window; RGB for
        "matlab" and "luma".
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 2]; 0 for equal images.

    Raises:
      InputError: for an unknown preset; at trace time for images smaller than the window.

    References:
      Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, "Image Quality Assessment: From Error
      Visibility to Structural Similarity", IEEE TIP 2004.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> x = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
      >>> bool(pj.make("ssim")({}, x, 0.5 * x)[0] > 0.1)
      True
    """
    variant = PRESETS[choice(f"{name}: preset", preset, PRESETS)]
    side = len(variant.window)
    channels = 3 if variant.gray else None
    prepare = mapper(name, value_range, UNIT, dtype=dtype, channels=channels, min_size=(side, side))

    def embed(params: Params, images: ImageLike) -> Embedding:
        del params
        images = at_least_float32(prepare(images))
        if variant.gray:
            images = weighted_channels(images, variant.gray)
        if variant.shrink:
            images = _shrunk(images)
        return moments(images, variant)

    def maps(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params
        luminance, structure = dissimilarities(ex, ey, variant)
        return {"structure": (luminance + structure - luminance * structure).mean(axis=-1)}

    return distance_from_maps(name, embed, maps)


def weighted_channels(images: Array, weights: tuple[float, float, float, float]) -> Array:
    """One channel: the weighted sum of three, and a constant."""
    red, green, blue = (images[..., channel : channel + 1] for channel in range(3))
    return weights[0] * red + weights[1] * green + weights[2] * blue + weights[3]


def moments(images: Array, variant: Preset) -> dict[str, Array]:
    """The images with their windowed means and variances."""
    means = filter_separable(images, variant.window)
    squares = filter_separable(jnp.square(images), variant.window)
    variances = _correction(variant) * (squares - jnp.square(means))
    return {"images": images, "means": means, "variances": variances}


def dissimilarities(
    ex: dict[str, Array], ey: dict[str, Array], variant: Preset
) -> tuple[Array, Array]:
    """Maps of 1 - luminance and 1 - contrast-structure, SSIM's two factors.

    Both from differences: exactly 0, with gradient exactly 0, where the images agree, and no
    cancellation where they nearly do.
    """
    apart = jnp.square(ex["means"] - ey["means"])
    squares = filter_separable(jnp.square(ex["images"] - ey["images"]), variant.window)
    scatter = _correction(variant) * (squares - apart)
    luminance = apart / (jnp.square(ex["means"]) + jnp.square(ey["means"]) + C1)
    structure = scatter / (ex["variances"] + ey["variances"] + C2)
    return luminance, structure


def _correction(variant: Preset) -> float:
    """From population to sample covariances: a uniform window of side k sees k^2 pixels."""
    count = len(variant.window) ** 2
    return count / (count - 1) if variant.unbiased else 1.0


def _shrunk(images: Array) -> Array:
    """Means of f x f pixels, f apart, as MATLAB's symmetric, same-size filter gives them."""
    factor = max(1, _round_half_up(min(images.shape[1:3]) / 256))
    if factor == 1:
        return images
    before, after = (factor - 1) // 2, factor // 2
    margin = (before, after)
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode="symmetric")
    return window_means(padded, factor, factor)


def _round_half_up(value: float) -> int:
    return math.floor(value + 0.5)
