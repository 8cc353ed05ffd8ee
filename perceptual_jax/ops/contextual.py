"""The contextual similarity of two sets of feature vectors, without the matrix of all pairs.

References:
  R. Mechrez, I. Talmi, L. Zelnik-Manor, "The Contextual Loss for Image Transformation with
  Non-Aligned Data", ECCV 2018, https://arxiv.org/abs/1803.02077
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.filters import mean_2x2
from perceptual_jax.ops.safe import positive_part, safe_abs, safe_norm

__all__ = ["POINT_DISTANCES", "contextual_loss", "shrunk"]

_EPSILON = 1e-5
_MOST_PLACES = 128**2
_BLOCK = 2**20
"""Pairs at a time: 4 MiB in float32."""


def shrunk(features: Float[Array, "n h w c"]) -> Array:
    """2x2 means until there are fewer than 128^2 places: the comparison is quadratic in them."""
    while features.shape[1] * features.shape[2] >= _MOST_PLACES:
        features = mean_2x2(features)
    return features


def _cosine(x: Array, y: Array) -> Array:
    """1 - cos of the angle between all rows of x and y, which have norm 1."""
    return 1 - jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def _l2(x: Array, y: Array) -> Array:
    """Squared distances of all rows."""
    products = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.square(x).sum(axis=1, keepdims=True) + jnp.square(y).sum(axis=1)[None]
    return positive_part(squares - 2 * products)


def _l1(x: Array, y: Array) -> Array:
    """Sums of absolute differences of all rows, one channel at a time."""

    def add(total: Array, channel: tuple[Array, Array]) -> tuple[Array, None]:
        return total + safe_abs(channel[0][:, None] - channel[1][None]), None

    start = jnp.zeros((x.shape[0], y.shape[0]), x.dtype)
    return jax.lax.scan(add, start, (x.T, y.T))[0]


POINT_DISTANCES: Mapping[str, Callable[[Array, Array], Array]] = {
    "cosine": _cosine,
    "l1": _l1,
    "l2": _l2,
}
"""How far apart two feature vectors are; scale does not matter, only what is nearest."""


def contextual_loss(
    fx: Float[Array, "n h w c"],
    fy: Float[Array, "n h2 w2 c"],
    *,
    h: float,
    distance: str = "cosine",
    spatial_weight: float = 0.0,
) -> Float[Array, " n"]:
    """-log mean_j max_i CX_ij: is there, for every vector of y, one of x that is nearest to it?

    CX_ij = w_ij / sum_j w_ij,  w_ij = exp((1 - d_ij / (min_j d_ij + 1e-5)) / h)

    Args:
      fx: features of x.
      fy: features of y, by whose mean both are centred for "cosine".
      h: the bandwidth.
      distance: d, a key of `POINT_DISTANCES`.
      spatial_weight: how much nearness in the image counts beside nearness of features.
    """
    compare = partial(_one, h=h, distance=distance, spatial_weight=spatial_weight)
    return jax.vmap(compare)(fx, fy)


def _one(fx: Array, fy: Array, *, h: float, distance: str, spatial_weight: float) -> Array:
    x, y = fx.reshape(-1, fx.shape[-1]), fy.reshape(-1, fy.shape[-1])
    if distance == "cosine":
        centre = y.mean(axis=0, keepdims=True)
        x, y = _unit(x - centre), _unit(y - centre)
    places_x, places_y = (jnp.asarray(_places(f.shape[0], f.shape[1]), x.dtype) for f in (fx, fy))
    rows = min(len(x), max(1, _BLOCK // len(y)))
    count = -(-len(x) // rows)
    excess = count * rows - len(x)

    @jax.checkpoint
    def best_of(block: tuple[Array, Array, Array]) -> Array:
        points, places, real = block
        apart = POINT_DISTANCES[distance](points, y)
        similar = _shares(apart / (apart.min(axis=1, keepdims=True) + _EPSILON), h)
        if spatial_weight:
            near = _shares(_l2(places, places_y), h)
            similar = (1 - spatial_weight) * similar + spatial_weight * near
        return jnp.where(real[:, None], similar, 0).max(axis=0)

    def blocks(rows_of: Array) -> Array:
        padded = jnp.pad(rows_of, ((0, excess), *((0, 0),) * (rows_of.ndim - 1)), mode="edge")
        return padded.reshape(count, rows, *rows_of.shape[1:])

    real = jnp.arange(count * rows).reshape(count, rows) < len(x)
    best = jax.lax.map(best_of, (blocks(x), blocks(places_x), real)).max(axis=0)
    # A maximum may pass over the similarities of a point that is NaN.
    return jnp.where(jnp.isnan(x).any(), jnp.nan, -jnp.log(best.mean() + _EPSILON))


def _unit(points: Array) -> Array:
    norms = safe_norm(points)
    return points / jnp.where(norms > 0, norms, 1)


def _shares(distances: Array, h: float) -> Array:
    """exp((1 - d) / h) of each row, divided by the row's sum."""
    return jax.nn.softmax((1 - distances) / h, axis=1)


def _places(height: int, width: int) -> np.ndarray:
    """The coordinates of all places, in [0, 1]."""
    rows, columns = np.mgrid[:height, :width]
    scale = np.array([max(height - 1, 1), max(width - 1, 1)])
    return np.stack([rows, columns], axis=-1).reshape(-1, 2) / scale
