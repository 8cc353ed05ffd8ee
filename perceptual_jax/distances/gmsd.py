"""Gradient Magnitude Similarity Deviation."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_terms
from perceptual_jax.distances.structural import weighted_channels
from perceptual_jax.ops.filters import filter_valid
from perceptual_jax.ops.safe import safe_sqrt
from perceptual_jax.ops.value_range import UNIT, at_least_float32, mapper
from perceptual_jax.ops.windows import window_means

__all__ = ["gmsd"]

_C = 170 / 255**2  # Of the authors, on [0, 255].
_GRAY = (0.2989, 0.5870, 0.1140, 0.0)
_PREWITT = np.array([[1.0, 0.0, -1.0]] * 3) / 3


def gmsd(
    *, name: str = "gmsd", value_range: ValueRange = (0.0, 1.0), dtype: Any = None
) -> Distance:
    """The deviation, over the image, of the similarity of gradient magnitudes.

        similarity = (2 gx gy + c) / (gx^2 + gy^2 + c)

    g is the length of the Prewitt gradient of the gray image at half its size, c = 170 on
    [0, 255]. A distortion that is everywhere alike disturbs less than one that is not.

    Args:
      name: the canonical spec.
      value_range: (low, high) of float images, of three channels and at least 3x3 pixels.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 1); 0 for equal images, and for images of other colours but equal edges.

    Raises:
      InputError: at trace time for images that are too small or not RGB.

    References:
      W. Xue, L. Zhang, X. Mou, A. Bovik, "Gradient Magnitude Similarity Deviation: A Highly
      Efficient Perceptual Image Quality Index", IEEE TIP 2014, https://arxiv.org/abs/1308.3052

    Example:
      >>> import jax, perceptual_jax as pj
      >>> x = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
      >>> pj.make("gmsd")({}, x, x).tolist()
      [0.0]
    """
    prepare = mapper(name, value_range, UNIT, dtype=dtype, channels=3, min_size=(3, 3))

    def embed(params: Params, images: ImageLike) -> Embedding:
        del params
        gray = weighted_channels(at_least_float32(prepare(images)), _GRAY)
        # The authors' filters see zeros beyond the border, also beyond an odd last row.
        odd = [side % 2 for side in gray.shape[1:3]]
        gray = jnp.pad(gray, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)))
        half = jnp.pad(window_means(gray, 2, 2), ((0, 0), (1, 1), (1, 1), (0, 0)))
        across, down = filter_valid(half, _PREWITT), filter_valid(half, _PREWITT.T)
        return safe_sqrt(jnp.square(across) + jnp.square(down))

    def terms(params: Params, ex: Array, ey: Array) -> Terms:
        del params
        # 1 - similarity, whose deviation is the same: exactly 0 where the gradients agree.
        apart = jnp.square(ex - ey) / (jnp.square(ex) + jnp.square(ey) + _C)
        count = apart.shape[1] * apart.shape[2]
        centred = apart - apart.mean(axis=(1, 2, 3), keepdims=True)
        variance = jnp.square(centred).sum(axis=(1, 2, 3)) / (count - 1)
        return {"deviation": safe_sqrt(variance)}

    return distance_from_terms(name, embed, terms)
