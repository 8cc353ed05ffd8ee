"""Measures of images and of sets of them, and of distances over data sets.

PSNR and sharpness; how far apart two sets are, as points in any space; agreement with people.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from perceptual_jax._typing import Array, Float, ImageLike, ValueRange
from perceptual_jax.errors import InputError, positive_integer
from perceptual_jax.ops.value_range import UNIT, mapper

__all__ = [
    "Interval",
    "bootstrap_means",
    "frechet_distance",
    "gradient_energy",
    "human_ceiling",
    "interval",
    "jnd_average_precision",
    "kernel_distance",
    "psnr",
    "relative_sharpness",
    "sliced_wasserstein",
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


def psnr(made: ArrayLike, wanted: ArrayLike, *, most: float = float("inf")) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(1 / mean (made - wanted)^2).

    To train on, take `l2`, which is four times that mean: PSNR is 10 log10(4 / l2).

    Args:
      made: floats in [0, 1], of any shape: images, one channel of them, or some of their pixels.
      wanted: of the same shape.
      most: what is given where both are the same, and the largest number at all: a finite one where
        means are taken.

    Returns:
      At most `most`, computed in float64.

    Raises:
      InputError: for shapes that differ, and numbers that are no floats.

    Example:
      >>> import numpy as np
      >>> from perceptual_jax.statistics import psnr
      >>> round(psnr(np.full((1, 4, 4, 3), 0.5), np.full((1, 4, 4, 3), 0.6)), 6)
      20.0
    """
    made, wanted = np.asarray(made), np.asarray(wanted)
    for name, images in (("made", made), ("wanted", wanted)):
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(f"psnr: {name} must be floats in [0, 1]; got {images.dtype}")
    if made.shape != wanted.shape:
        raise InputError(f"psnr: made is {made.shape}, wanted {wanted.shape}: they must be alike")
    error = np.square(made.astype(np.float64) - wanted.astype(np.float64)).mean()
    return min(float(-10 * np.log10(error)), most) if error > 0 else most


# --- Sets ----------------------------------------------------------------------------------


def frechet_distance(x: ArrayLike, y: ArrayLike) -> float:
    """How far apart two sets of points are as normal distributions.

    |mean x - mean y|^2 + tr(A + B - 2 (A B)^(1/2)), A and B the covariances: the square of the
    2-Wasserstein distance of the normal distributions with the sets' means and covariances.

    Small sets are far apart also where both are of one distribution: the covariance of n points
    has rank n - 1. Compare numbers of sets of one size alone, and with the number of a set that is
    known to be of the distribution.

    Args:
      x: points, features of images say, [n, d], at least two.
      y: others, [m, d], at least two.

    Returns:
      At least 0, computed in float64.

    Raises:
      InputError: for fewer points, of other lengths, or that are not finite.

    Example:
      >>> from perceptual_jax.statistics import frechet_distance
      >>> round(frechet_distance([[0.0], [2.0]], [[3.0], [7.0]]), 6)  # (5 - 1)^2 and (2^.5)^2
      18.0

    References:
      D. Dowson, B. Landau, "The Frechet Distance between Multivariate Normal Distributions",
      Journal of Multivariate Analysis 1982.
      M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
      Equilibrium", NIPS 2017, https://arxiv.org/abs/1706.08500 (of Inception's features: FID)
    """
    x, y = _two_sets(x, y)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    root_x, root_y = _root_of_covariance(x), _root_of_covariance(y)
    # With A = R^T R and B = S^T S, the trace of (A B)^(1/2) is the sum of R S^T's singular
    # values: no root of a matrix is taken, and none needs full rank.
    shared = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    spread = np.square(root_x).sum() + np.square(root_y).sum() - 2 * shared
    return float(np.square(mean_x - mean_y).sum() + max(spread, 0.0))


def _root_of_covariance(points: np.ndarray) -> np.ndarray:
    """R [at most d, d] of which R^T R is the points' covariance."""
    centred = (points - points.mean(axis=0)) / np.sqrt(len(points) - 1)
    return centred if len(points) <= points.shape[1] else np.asarray(np.linalg.qr(centred, "r"))


_ROWS = 1024
"""Of a kernel's values, how many rows are held at a time."""


def kernel_distance(x: ArrayLike, y: ArrayLike) -> float:
    """The squared maximum mean discrepancy of two sets of points under k(u, v) = (u.v / d + 1)^3.

    mean_(i != j) k(x_i, x_j) + mean_(i != j) k(y_i, y_j) - 2 mean_ij k(x_i, y_j), which has no
    bias: for two sets of one distribution, of any sizes, it is 0 on average, and half the time
    below.

    Args:
      x: points, features of images say, [n, d], at least two.
      y: others, [m, d], at least two.

    Returns:
      A number, computed in float64.

    Raises:
      InputError: for fewer points, of other lengths, or that are not finite.

    Example:
      >>> from perceptual_jax.statistics import kernel_distance
      >>> kernel_distance([[0.0], [0.0]], [[1.0], [1.0]])  # 1 + 2^3 - 2
      7.0

    References:
      M. Binkowski, D. Sutherland, M. Arbel, A. Gretton, "Demystifying MMD GANs", ICLR 2018,
      https://arxiv.org/abs/1801.01401 (of Inception's features: KID)
    """
    x, y = _two_sets(x, y)

    def kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
        rows = (a[start : start + _ROWS] for start in range(0, len(a), _ROWS))
        return sum(((some @ b.T / b.shape[1] + 1) ** 3).sum() for some in rows)

    def within(a: np.ndarray) -> float:
        alone = ((np.square(a).sum(axis=1) / a.shape[1] + 1) ** 3).sum()
        return (kernel_sum(a, a) - alone) / (len(a) * (len(a) - 1))

    return float(within(x) + within(y) - 2 * kernel_sum(x, y) / (len(x) * len(y)))


def sliced_wasserstein(
    x: ArrayLike, y: ArrayLike, *, num_projections: int = 256, seed: int = 0
) -> float:
    """The 1-Wasserstein distance of two sets of points along a direction, a mean over directions.

    Sets may differ in size: each is a distribution in which every point weighs the same.

    Args:
      x: points, patches of images say, [n, d], at least two.
      y: others, [m, d], at least two.
      num_projections: how many directions of length 1 are drawn.
      seed: of the directions.

    Returns:
      At least 0, in the points' unit; more for small sets, also where both are of one
      distribution.

    Raises:
      InputError: for fewer points, of other lengths, or that are not finite.

    Example:
      >>> from perceptual_jax.statistics import sliced_wasserstein
      >>> sliced_wasserstein([[0.0], [1.0]], [[2.0], [3.0]])
      2.0

    References:
      J. Rabin, G. Peyre, J. Delon, M. Bernot, "Wasserstein Barycenter and Its Application to
      Texture Mixing", SSVM 2011.
    """
    x, y = _two_sets(x, y)
    positive_integer("num_projections", num_projections)
    directions = np.random.default_rng(seed).standard_normal((x.shape[1], num_projections))
    directions /= np.linalg.norm(directions, axis=0)
    along = np.concatenate([x @ directions, y @ directions]).T
    order = np.argsort(along, axis=-1)
    # Between one value and the next, the distance grows by the gap of the distribution functions.
    share = np.where(order < len(x), 1 / len(x), -1 / len(y))
    apart = np.abs(np.cumsum(share, axis=-1)[:, :-1])
    steps = np.diff(np.take_along_axis(along, order, axis=-1), axis=-1)
    return float((apart * steps).sum(axis=-1).mean())


def _two_sets(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 2:
        raise InputError(
            "x and y must be points [n, d] and [m, d], at least two each; "
            f"got {list(x.shape)} and {list(y.shape)}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("x and y must be finite; got NaN or infinity")
    return x, y


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
