"""Measures of images, and of distances over data sets: sharpness, agreement with people."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from perceptual_jax._typing import Array, Float, ImageLike, ValueRange
from perceptual_jax.errors import InputError
from perceptual_jax.ops.value_range import UNIT, mapper

__all__ = [
    "Interval",
    "bootstrap_means",
    "gradient_energy",
    "human_ceiling",
    "interval",
    "jnd_average_precision",
    "relative_sharpness",
    "two_afc_agreement",
]


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


# --- Human judgements ----------------------------------------------------------------------


def two_afc_agreement(d0: ArrayLike, d1: ArrayLike, judge: ArrayLike) -> np.ndarray:
    """How many of the people who saw a triplet chose what a distance chooses.

    A triplet is a reference and two images; a distance chooses the nearer one. The score on a data
    set is the mean of these numbers.

    Args:
      d0: distance of the reference to the first image, [..., t].
      d1: and to the second, [..., t].
      judge: the fraction of people who chose the second, [t] in [0, 1].

    Returns:
      Numbers in [0, 1], [..., t] in float64; a half where the distances are equal.

    Raises:
      InputError: for shapes that do not match, judgements outside [0, 1], or NaN.

    Example:
      >>> from perceptual_jax.statistics import two_afc_agreement
      >>> two_afc_agreement([0.1, 0.3, 0.2], [0.2, 0.2, 0.2], [0.0, 0.25, 1.0]).tolist()
      [1.0, 0.25, 0.5]

    References:
      R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
      CVPR 2018, https://arxiv.org/abs/1801.03924
    """
    d0, d1 = np.asarray(d0, np.float64), np.asarray(d1, np.float64)
    judge = _fractions("judge", judge)
    if d0.shape != d1.shape or d0.shape[-1:] != judge.shape:
        raise InputError(
            f"d0 and d1 must be [..., t] and judge [t]; "
            f"got {list(d0.shape)}, {list(d1.shape)} and {list(judge.shape)}"
        )
    if np.isnan(d0).any() or np.isnan(d1).any():
        raise InputError("d0 and d1 must not be NaN")
    return np.where(d0 < d1, 1 - judge, np.where(d1 < d0, judge, 0.5))


def human_ceiling(judge: ArrayLike) -> np.ndarray:
    """How often a person agrees with the people who judged the same triplet.

    Someone who chooses the second image as often as they all do agrees with a fraction j of them
    j of the time, and with 1 - j the rest: j^2 + (1 - j)^2.

    Args:
      judge: the fraction of people who chose the second image, [t] in [0, 1].

    Returns:
      One number per triplet, [t] in [0.5, 1]; their mean is what people score.
    """
    judge = _fractions("judge", judge)
    return np.square(judge) + np.square(1 - judge)


def jnd_average_precision(distances: ArrayLike, same: ArrayLike) -> np.ndarray:
    """How well distances order pairs by how many people take them for the same image.

    The area under precision against recall, from the nearest pair to the farthest, with precision
    made to fall; of pairs equally far, those that come first are taken first.

    Args:
      distances: [..., p].
      same: the fraction of people who saw no difference, [p] in [0, 1].

    Returns:
      Numbers in [0, 1], [...] in float64.

    Raises:
      InputError: for shapes that do not match, fractions outside [0, 1], NaN, or nobody who saw
        no difference.

    References:
      As `two_afc_agreement`, whose code takes the area as the PASCAL VOC challenge does.
    """
    distances, same = np.asarray(distances, np.float64), _fractions("same", same)
    if distances.shape[-1:] != same.shape:
        raise InputError(
            f"distances must be [..., p] and same [p]; got {list(distances.shape)} and "
            f"{list(same.shape)}"
        )
    if np.isnan(distances).any():
        raise InputError("distances must not be NaN")
    if same.sum() == 0:
        raise InputError("same is 0 everywhere: nobody took a pair for the same image")
    ordered = same[np.argsort(distances, axis=-1, kind="stable")]
    found = np.cumsum(ordered, axis=-1)
    precision = found / np.arange(1, same.size + 1)
    falling = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    return (np.diff(found, axis=-1, prepend=0) * falling).sum(axis=-1) / same.sum()


class Interval(NamedTuple):
    """A mean, and where it would lie for 95% of data sets like this one.

    Attributes:
      mean: [...].
      low: [...].
      high: [...].
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_means(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    samples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Means of data sets drawn from this one with replacement.

    All rows are drawn alike, so that the differences of two rows' means are those of a paired
    comparison.

    Args:
      values: one number per item, [m, t].
      weights: of the items, [t]; by default 1.
      samples: how many data sets to draw.
      seed: of the draws.

    Returns:
      [samples, m] in float64.
    """
    values = np.asarray(values, np.float64)
    weights = np.ones(values.shape[-1]) if weights is None else np.asarray(weights, np.float64)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(samples):
        drawn = rng.integers(0, weights.size, weights.size)
        counts = np.bincount(drawn, minlength=weights.size) * weights
        means.append(values @ counts / counts.sum())
    return np.stack(means)


def interval(mean: ArrayLike, drawn: np.ndarray) -> Interval:
    """The middle 95% of what was drawn, [samples, ...], around a mean [...]."""
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return Interval(np.asarray(mean, np.float64), low, high)


def _fractions(what: str, values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"{what} must be [t], at least one; got {list(values.shape)}")
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"{what} must be in [0, 1]; got {values.min():g} to {values.max():g}")
    return values
