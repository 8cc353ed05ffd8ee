"""Images as points: the space of a distance's embeddings, and its coordinates.

Where a distance is a weighted squared Euclidean one of its embeddings, as l2, LPIPS, Gram matrices
and features under metric='l2' are, |a - b|^2 = |a|^2 - 2 a.b + |b|^2 and distances are products of
matrices. `quadratic_weights` finds out by trying.

Others may be squared Euclidean in a space that nobody has to write down: sums of absolute
differences and of Gaussian kernels are. The distances of all pairs give its coordinates; of a
distance that is squared Euclidean in no space, what comes nearest.

References:
  I. Schoenberg, "Metric Spaces and Positive Definite Functions", Transactions of the American
  Mathematical Society 1938.
  W. Torgerson, "Multidimensional Scaling: I. Theory and Method", Psychometrika 1952.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.mesh import shard_leading
from perceptual_jax._typing import Array, Embedding, Params

__all__ = [
    "Points",
    "Space",
    "chosen",
    "coordinates",
    "distances_of",
    "origin_of",
    "points_of",
    "quadratic_weights",
    "space_of",
    "squared_distances",
]


class Points(NamedTuple):
    """What is clustered.

    Attributes:
      values: a pytree of leaves [n, ...].
      weight: of each point, [n]; 0 for what only fills up the devices.
    """

    values: Embedding
    weight: Array


class Space(NamedTuple):
    """Where points lie, and how far they are from each other.

    Attributes:
      context: arrays that `distances` needs.
      distances: `(context, points [n, ...], centroids [k, ...]) -> [n, k]`.
      euclidean: whether they are squared Euclidean ones, so that the mean is nearest to all.
    """

    context: Any
    distances: Callable[[Any, Embedding, Embedding], Array]
    euclidean: bool


def space_of(distance: pj.Distance, params: Params, sample: Embedding) -> Space:
    """The space of a distance's embeddings.

    Args:
      distance: any.
      params: its params.
      sample: embeddings of a few images, to find out on whether the distance is Euclidean.
    """
    weights = quadratic_weights(distance, params, sample)
    if weights is not None:
        return Space(weights, squared_distances, True)
    return Space(params, _compared_by(distance), False)


def quadratic_weights(distance: pj.Distance, params: Params, sample: Embedding) -> Embedding | None:
    """The weights with which compare(a, b) = sum w (a - b)^2; None where there are none.

    If there are any, half the gradient in a at a = 1, b = 0 is they. They are taken for it if all
    comparisons of the sample with itself turned around come out right.

    Args:
      distance: any.
      params: its params.
      sample: embeddings of at least two images.

    Returns:
      At least 0, leaves [1, ...]; or None.
    """
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(sample)):
        return None
    weights, compared, wanted = _tried(distance, params, sample)
    positive = all((leaf >= 0).all() for leaf in jax.tree.leaves(weights))
    # Sums of half a million squares, in another order: 1e-5 is usual.
    same = np.allclose(compared, wanted, rtol=1e-3, atol=1e-9) and np.asarray(compared).any()
    return weights if positive and same else None


@partial(jax.jit, static_argnums=0)
def _tried(
    distance: pj.Distance, params: Params, sample: Embedding
) -> tuple[Embedding, Array, Array]:
    """The weights that there may be, and pairs' distances as they are and by these weights."""
    first = jax.tree.map(lambda leaf: leaf[:1].astype(jnp.float32), sample)
    ones, zeros = (jax.tree.map(fill, first) for fill in (jnp.ones_like, jnp.zeros_like))
    slope = jax.grad(lambda a: distance.compare(params, a, zeros).sum())(ones)
    weights = jax.tree.map(lambda leaf: leaf / 2, slope)
    turned = jax.tree.map(lambda leaf: leaf[::-1], sample)
    by_weights = jnp.zeros(jax.tree.leaves(sample)[0].shape[0])
    for w, a, b in zip(*map(jax.tree.leaves, (weights, sample, turned)), strict=True):
        by_weights += (w * jnp.square(a - b)).sum(axis=tuple(range(1, a.ndim)))
    return weights, distance.compare(params, sample, turned), by_weights


def squared_distances(weights: Embedding, points: Embedding, centroids: Embedding) -> Array:
    """Of every point and centroid sum w (a - b)^2, [n, k], by products of matrices."""
    total: Any = 0.0
    for w, a, b in zip(*map(jax.tree.leaves, (weights, points, centroids)), strict=True):
        n, k = a.shape[0], b.shape[0]
        a, weighed = a.reshape(n, -1), (w * b).reshape(k, -1)
        product = jnp.matmul(a, weighed.T, precision=jax.lax.Precision.HIGHEST)
        own = (b.reshape(k, -1) * weighed).sum(axis=1)
        size = (jnp.square(a) * w.reshape(1, -1)).sum(axis=1, keepdims=True)
        total = total + (size - 2 * product + own[None])
    return jnp.maximum(total, 0)


def _compared_by(distance: pj.Distance) -> Callable[[Any, Embedding, Embedding], Array]:
    def distances(params: Params, points: Embedding, centroids: Embedding) -> Array:
        # All points with one centroid after the other: they stay on their devices, as in
        # `pairwise`'s loop over points they would not, and 100 embeddings by VGG-16 take 72 ms
        # with two centroids on two CPU cores where `pairwise` takes 277.
        def to_all(centroid: Embedding) -> Array:
            alone = jax.tree.map(lambda leaf: leaf[None], centroid)
            return distance.compare(params, points, alone)

        return jax.lax.map(to_all, centroids).T

    return distances


def origin_of(space: Space, embedding: Embedding) -> Embedding:
    """What is taken from embeddings to make points of them, leaves [1, ...].

    Squared distances are differences of squares, which lose less where these are small: the mean
    is taken from what is Euclidean. Other distances need embeddings as they are; of those, 0.
    """
    return _mean(embedding, float(space.euclidean))


@jax.jit
def _mean(embedding: Embedding, times: float) -> Embedding:
    return jax.tree.map(lambda leaf: leaf.mean(axis=0, keepdims=True) * times, embedding)


@jax.jit
def _less(embedding: Embedding, origin: Embedding, places: Array) -> Embedding:
    return jax.tree.map(lambda leaf, shift: leaf[places] - shift, embedding, origin)


def points_of(embedding: Embedding, origin: Embedding) -> Points:
    """Embeddings less the origin as points on all devices, filled up to the same number on each."""
    n = jax.tree.leaves(embedding)[0].shape[0]
    places = np.arange(n + -n % jax.device_count()) % n
    values = _less(embedding, origin, places)
    weight = jnp.asarray(np.arange(len(places)) < n, jnp.float32)
    return shard_leading(Points(values, weight), len(places))


def chosen(embedding: Embedding, places: np.ndarray) -> Embedding:
    """The images at these places, of all leaves."""
    return jax.tree.map(lambda leaf: leaf[places], embedding)


@partial(jax.jit, static_argnums=0)
def distances_of(distances: Callable, context: Any, points: Embedding, others: Embedding) -> Array:
    """A space's distances, [n, k], compiled."""
    return distances(context, points, others)


# --- Coordinates ---------------------------------------------------------------------------


def coordinates(
    space: Space, points: Points, apart: np.ndarray | None = None
) -> tuple[Space, Points]:
    """The same points by as many coordinates as there are points, however long their embeddings.

    Squared distances remain what they are: 200 embeddings by VGG-16 are [200, 512,000] before and
    [200, 200] after.

    Args:
      space: where the points lie.
      points: few enough for all their products, [n, n].
      apart: the distances of all pairs, [n, n], needed where the space is not Euclidean.

    Returns:
      A Euclidean space, and the points in it.
    """
    weight = np.asarray(points.weight, np.float64)
    if apart is None:
        products = np.asarray(_products(space.context, points.values), np.float64)
    else:
        apart = (apart + apart.T).astype(np.float64) / 2
        mean = apart @ weight / weight.sum()
        products = (mean[:, None] + mean - apart - mean @ weight / weight.sum()) / 2
    sizes, axes = np.linalg.eigh(products)
    found = (axes * np.sqrt(np.maximum(sizes, 0))).astype(np.float32)
    n = len(found)
    values = shard_leading(jnp.asarray(found), n)
    ones = jnp.ones((1, n), jnp.float32)
    return Space(ones, squared_distances, True), Points(values, points.weight)


@jax.jit
def _products(weights: Embedding, values: Embedding) -> Array:
    total: Any = 0.0
    for w, a in zip(*map(jax.tree.leaves, (weights, values)), strict=True):
        flat = (jnp.sqrt(w) * a).reshape(a.shape[0], -1)
        total = total + jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST)
    return total
