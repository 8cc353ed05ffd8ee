"""Structural similarity, on images in [0, 1]."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_maps
from perceptual_jax.errors import choice
from perceptual_jax.ops.filters import filter_separable, gaussian_kernel
from perceptual_jax.ops.value_range import UNIT, at_least_float32, mapper

__all__ = ["PRESETS", "Preset", "ssim"]


class Preset(NamedTuple):
    """What implementations of SSIM differ in.

    Attributes:
      window: the separable window [k], of sum 1.
      unbiased: sample covariances (divided by count - 1), not population ones.
    """

    window: np.ndarray
    unbiased: bool


PRESETS = {
    "wang2004": Preset(gaussian_kernel(11, 1.5), unbiased=False),
    "skimage": Preset(np.full(7, 1 / 7), unbiased=True),
}
"""The paper's 11x11 Gaussian, and scikit-image's default 7x7 uniform window."""

_K1, _K2 = 0.01, 0.03


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
      preset: a key of `PRESETS`; which published variant to be equal to.
      name: the canonical spec.
      value_range: (low, high) of float images, at least as large as the window.
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
    window, unbiased = PRESETS[choice("ssim: preset", preset, PRESETS)]
    # A separable uniform window of side k sees k^2 pixels.
    count = len(window) ** 2
    correction = count / (count - 1) if unbiased else 1.0
    prepare = mapper(name, value_range, UNIT, dtype=dtype, min_size=(len(window), len(window)))
    c1, c2 = _K1**2, _K2**2

    def mean(images: Array) -> Array:
        return filter_separable(images, window)

    def embed(params: Params, images: ImageLike) -> Embedding:
        del params
        images = at_least_float32(prepare(images))
        means = mean(images)
        variances = correction * (mean(jnp.square(images)) - jnp.square(means))
        return {"images": images, "means": means, "variances": variances}

    def maps(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params
        # 1 - (1 - luminance)(1 - structure), both as differences: exactly 0, with gradient exactly
        # 0, where the images agree, and no cancellation where they nearly do.
        apart = jnp.square(ex["means"] - ey["means"])
        scatter = correction * (mean(jnp.square(ex["images"] - ey["images"])) - apart)
        luminance = apart / (jnp.square(ex["means"]) + jnp.square(ey["means"]) + c1)
        structure = scatter / (ex["variances"] + ey["variances"] + c2)
        return {"structure": (luminance + structure - luminance * structure).mean(axis=-1)}

    return distance_from_maps(name, embed, maps)
