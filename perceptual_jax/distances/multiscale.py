"""Multi-scale structural similarity, on images in [0, 1]."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_terms, weighted_sum
from perceptual_jax.distances.pixel import l1
from perceptual_jax.distances.structural import PRESETS, dissimilarities, moments
from perceptual_jax.errors import InputError, choice, finite_number, positive_integer
from perceptual_jax.ops.value_range import UNIT, at_least_float32, mapper
from perceptual_jax.ops.windows import window_means

__all__ = ["WEIGHTS", "ms_ssim", "ms_ssim_l1"]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The exponents of the scales, finest first, that Wang et al. measured."""

_VARIANT = PRESETS["wang2004"]
_WINDOW = len(_VARIANT.window)
_PRESETS = ("wang2003", "pytorch-msssim")


def ms_ssim(
    *,
    levels: int | str = 5,
    preset: str = "wang2003",
    name: str = "ms-ssim",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """1 - MS-SSIM, the mean over channels of 1 - l_M^w_M prod_j c_j^w_j.

    c_j is the mean of SSIM's contrast and structure at scale j, l_M that of all of SSIM at the
    coarsest; each scale is the 2x2 mean of the one before. A scale whose structure is opposite
    (c_j < 0) counts as 0, and passes no gradient.

    Args:
      levels: how many scales, 1 to 5, whose weights are brought to sum 1 when fewer than 5; "auto"
        takes as many as the image is large enough for.
      preset: what an odd side becomes: "wang2003", the authors' and TensorFlow's, repeats the
        last row; "pytorch-msssim" puts zeros on both sides.
      name: the canonical spec.
      value_range: (low, high) of float images, at least 161 px a side for 5 levels.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 1]; 0 for equal images.

    Raises:
      InputError: for options out of range; at trace time for images too small, with the size
        that would do.

    References:
      Z. Wang, E. Simoncelli, A. Bovik, "Multiscale structural similarity for image quality
      assessment", Asilomar 2003.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> x = jax.random.uniform(jax.random.key(0), (1, 48, 48, 3))
      >>> pj.make("ms-ssim", levels="auto")({}, x, x).tolist()
      [0.0]
    """
    automatic = levels == "auto"
    if isinstance(levels, str) != automatic or not (
        automatic or 1 <= positive_integer(f"{name}: levels", levels) <= len(WEIGHTS)
    ):
        raise InputError(f"{name}: levels must be 1 to {len(WEIGHTS)} or 'auto'; got {levels!r}")
    count = len(WEIGHTS) if automatic else int(levels)
    choice(f"{name}: preset", preset, _PRESETS)
    smallest = smallest_side(1 if automatic else count)
    prepare = mapper(name, value_range, UNIT, dtype=dtype, min_size=(smallest, smallest))

    def embed(params: Params, images: ImageLike) -> Embedding:
        del params
        images = at_least_float32(prepare(images))
        scales = _fitting(min(images.shape[1:3])) if automatic else count
        pyramid = [images]
        for _ in range(scales - 1):
            pyramid.append(_halved(pyramid[-1], preset))
        return [moments(scale, _VARIANT) for scale in pyramid]

    def terms(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params
        # As published they add up to 1.0001; fewer of them are brought to sum 1.
        total = sum(WEIGHTS[: len(ex)]) if len(ex) < len(WEIGHTS) else 1.0
        logs: Array | float = 0.0
        for level, (x, y) in enumerate(zip(ex, ey, strict=True)):
            luminance, apart = dissimilarities(x, y, _VARIANT)
            if level == len(ex) - 1:
                apart = luminance + apart - luminance * apart
            logs = logs + WEIGHTS[level] / total * _log_similarity(apart.mean(axis=(1, 2)))
        return {"scales": -jnp.expm1(logs).mean(axis=-1)}

    return distance_from_terms(name, embed, terms)


def smallest_side(levels: int) -> int:
    """The shortest side that has a whole window at every one of so many scales."""
    return (_WINDOW - 1) * 2 ** (levels - 1) + 1


def _fitting(side: int) -> int:
    return max(n for n in range(1, len(WEIGHTS) + 1) if n == 1 or smallest_side(n) <= side)


def _halved(images: Array, preset: str) -> Array:
    """2x2 means; what becomes of an odd side is where implementations differ."""
    odd = [side % 2 for side in images.shape[1:3]]
    if preset == "wang2003":
        margins = ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0))
        return window_means(jnp.pad(images, margins, mode="edge"), 2, 2)
    margins = ((0, 0), (odd[0], odd[0]), (odd[1], odd[1]), (0, 0))
    return window_means(jnp.pad(images, margins), 2, 2)


def _log_similarity(apart: Array) -> Array:
    """log(1 - apart), for similarities that are not positive a large negative number.

    There the power's gradient would be infinite; it is 0.
    """
    opposite = apart >= 1
    return jnp.where(opposite, -1e4, jnp.log1p(-jnp.where(opposite, 0, apart)))


def ms_ssim_l1(
    *,
    alpha: float = 0.84,
    levels: int | str = 5,
    name: str = "ms-ssim-l1",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """MS-SSIM for contrast, l1 for colour: alpha ms-ssim + (1 - alpha) l1.

    The l1 is that of [0, 1]. The paper weighs it by the coarsest Gaussian, which over a whole image
    is its plain mean, but for the border.

    Args:
      alpha: the share of MS-SSIM, in [0, 1].
      levels: as for `ms_ssim`.
      name: the canonical spec.
      value_range: (low, high) of float images, at least 161 px a side for 5 levels.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 1], with terms "ms-ssim" and "l1"; 0 for equal images.

    Raises:
      InputError: as `ms_ssim`, and for alpha out of range.

    References:
      H. Zhao, O. Gallo, I. Frosio, J. Kautz, "Loss Functions for Image Restoration with Neural
      Networks", IEEE TCI 2017, https://arxiv.org/abs/1511.08861

    Example:
      >>> import jax, perceptual_jax as pj
      >>> x = jax.random.uniform(jax.random.key(0), (1, 48, 48, 3))
      >>> pj.make("ms-ssim-l1", levels=2)({}, x, x).tolist()
      [0.0]
    """
    alpha = finite_number(f"{name}: alpha", alpha)
    if not 0 <= alpha <= 1:
        raise InputError(f"{name}: alpha must be in [0, 1]; got {alpha}")
    common: dict[str, Any] = {"value_range": value_range, "dtype": dtype}
    parts = {
        "ms-ssim": (alpha, ms_ssim(levels=levels, name=name, **common)),
        # l1 is defined on [-1, 1], where differences are twice those on [0, 1].
        "l1": ((1 - alpha) / 2, l1(**common)),
    }
    return weighted_sum(parts, name=name)
