"""k-means where images are embeddings of any distance, on all devices.

Where a distance is a weighted squared Euclidean one of its embeddings, as l2, LPIPS, Gram matrices
and features under metric='l2' are, |a - b|^2 = |a|^2 - 2 a.b + |b|^2 and assignment is a matrix
product. `quadratic_weights` finds out by trying. Any other distance compares embeddings with
centroids one by one, and centroids are means of embeddings too: that such a mean is nearest to its
cluster, and so that the inertia falls, holds for the former alone. The loop stops where it no
longer falls, and keeps the best.

References:
  S. Lloyd, "Least Squares Quantization in PCM", IEEE Transactions on Information Theory 1982.
  D. Arthur, S. Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
  D. Sculley, "Web-Scale K-Means Clustering", WWW 2010.
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
from perceptual_jax._typing import Array, Embedding, Key, Params

__all__ = [
    "Found",
    "Points",
    "Space",
    "assigned",
    "chosen",
    "coordinates",
    "cost_of",
    "lloyd",
    "means",
    "minibatch_step",
    "origin_of",
    "plus_plus",
    "points_of",
    "quadratic_weights",
    "space_of",
    "sums",
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


class Found(NamedTuple):
    """What one start of k-means ended with.

    Attributes:
      labels: the cluster of each point, [n].
      centroids: leaves [k, ...].
      inertia: the sum of all points' distances to their centroids.
      history: the inertia of every iteration.
    """

    labels: np.ndarray
    centroids: Embedding
    inertia: float
    history: list[float]


# --- Spaces --------------------------------------------------------------------------------


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


_MOST_FOR_COORDINATES = 2048
"""Points: the coordinates of so many are found in 5 s, of twice as many in 40 s."""


def coordinates(space: Space, points: Points) -> tuple[Space, Points]:
    """The same points, by as many coordinates as there are points, where that is fewer.

    n points lie in n - 1 dimensions, however long their embeddings are, and their squared distances
    remain what they are: 200 embeddings by VGG-16 are [200, 512,000] before and [200, 200] after.
    """
    leaves = jax.tree.leaves(points.values)
    n = leaves[0].shape[0]
    length = sum(leaf[0].size for leaf in leaves)
    if not space.euclidean or length <= n or n > _MOST_FOR_COORDINATES:
        return space, points
    products = np.asarray(_products(space.context, points.values), np.float64)
    sizes, axes = np.linalg.eigh(products)
    found = (axes * np.sqrt(np.maximum(sizes, 0))).astype(np.float32)
    values = shard_leading(jnp.asarray(found), n)
    return Space(jnp.ones((1, n), jnp.float32), squared_distances, True), Points(
        values, points.weight
    )


@jax.jit
def _products(weights: Embedding, values: Embedding) -> Array:
    total: Any = 0.0
    for w, a in zip(*map(jax.tree.leaves, (weights, values)), strict=True):
        flat = (jnp.sqrt(w) * a).reshape(a.shape[0], -1)
        total = total + jnp.matmul(flat, flat.T, precision=jax.lax.Precision.HIGHEST)
    return total


# --- Where to start ------------------------------------------------------------------------


def plus_plus(space: Space, points: Points, count: int, key: Key) -> np.ndarray:
    """k-means++: each next centroid is a point, drawn by its distance to the nearest one so far.

    Args:
      space: where the points lie.
      points: at least `count` of them.
      count: how many centroids.
      key: of the draws.

    Returns:
      Which points, [count].
    """
    nearest = jnp.ones_like(points.weight)
    places: list[int] = []
    for number in range(count):
        # Of points that are all taken, or equal to some that are, any will do.
        odds = points.weight * nearest
        odds = jnp.where(odds.sum() > 0, odds, points.weight)
        places.append(int(drawn(odds, jax.random.fold_in(key, number))))
        last = chosen(points.values, np.asarray(places[-1:]))
        nearest = _nearer(space.distances, space.context, points.values, last, nearest, number)
    return np.asarray(places)


@jax.jit
def drawn(odds: Array, key: Key) -> Array:
    """The place of one of [n], as likely as its odds; points of odds 0 after it change nothing."""
    sums = jnp.cumsum(odds)
    level = (1 - jax.random.uniform(key)) * sums[-1]  # In (0, 1]: never a point of odds 0.
    return jnp.minimum(jnp.searchsorted(sums, level), odds.size - 1)


@partial(jax.jit, static_argnums=0)
def _nearer(
    distances: Callable,
    context: Any,
    points: Embedding,
    last: Embedding,
    nearest: Array,
    number: Any,
) -> Array:
    found = distances(context, points, last)[:, 0]
    return jnp.where(number == 0, found, jnp.minimum(nearest, found))


def chosen(embedding: Embedding, places: np.ndarray) -> Embedding:
    """The images at these places, of all leaves."""
    return jax.tree.map(lambda leaf: leaf[places], embedding)


# --- The loop ------------------------------------------------------------------------------


def lloyd(
    space: Space,
    points: Points,
    centroids: Embedding,
    *,
    iterations: int = 100,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Found | None:
    """Assigns points to centroids and moves centroids to the means, until the inertia stays.

    An empty cluster takes the point that is farthest from its centroid, so that in a Euclidean
    space the inertia never rises.

    Args:
      space: where the points lie.
      points: on all devices.
      centroids: where to start, leaves [k, ...].
      iterations: how many at most.
      asked_to_stop: is asked between them.

    Returns:
      What was found; None if it was asked to stop.
    """
    best: Found | None = None
    history: list[float] = []
    step = partial(_lloyd_step, space.distances)
    for _ in range(iterations):
        labels, inertia, moved = step(space.context, points, centroids)
        history.append(float(inertia))
        if best is not None and not history[-1] < best.inertia:
            break
        best = Found(np.asarray(labels), centroids, history[-1], history)
        centroids = moved
        if asked_to_stop():
            return None
    return best


@partial(jax.jit, static_argnums=0)
def _lloyd_step(
    distances: Callable, context: Any, points: Points, centroids: Embedding
) -> tuple[Array, Array, Embedding]:
    """Labels and inertia under these centroids, and the next ones."""
    far = distances(context, points.values, centroids)
    labels, cost = _nearest(points, far)
    filled = _without_empty(points, labels, cost, far.shape[1])
    total, sizes = sums(points, filled, far.shape[1])
    return labels, cost.sum(), means(total, sizes, centroids)


def _nearest(points: Points, far: Array) -> tuple[Array, Array]:
    return far.argmin(axis=1), far.min(axis=1) * points.weight


@partial(jax.jit, static_argnums=0)
def assigned(
    distances: Callable, context: Any, points: Points, centroids: Embedding
) -> tuple[Array, Array]:
    """The nearest centroid of each point, [n], and how far it is, [n]."""
    return _nearest(points, distances(context, points.values, centroids))


@partial(jax.jit, static_argnums=0)
def cost_of(
    distances: Callable, context: Any, points: Points, centroids: Embedding, labels: Array
) -> Array:
    """How far each point is from the centroid of its label, [n]."""
    far = distances(context, points.values, centroids)
    return jnp.take_along_axis(far, labels[:, None], axis=1)[:, 0] * points.weight


def _without_empty(points: Points, labels: Array, cost: Array, count: int) -> Array:
    """The labels, with the costliest points in the clusters that are empty."""
    sizes = _members(points, labels, count).sum(axis=0)
    empty_first = jnp.argsort(sizes > 0, stable=True)
    costs, costly = jax.lax.top_k(cost, min(count, cost.size))
    empties = (sizes == 0).sum()
    taken = (jnp.arange(costs.size) < empties) & (costs > 0)
    return labels.at[jnp.where(taken, costly, labels.size)].set(
        empty_first[: costs.size].astype(labels.dtype), mode="drop"
    )


def _members(points: Points, labels: Array, count: int) -> Array:
    return jax.nn.one_hot(labels, count, dtype=points.weight.dtype) * points.weight[:, None]


def _sums(members: Array, leaf: Array) -> Array:
    flat = leaf.reshape(leaf.shape[0], -1)
    total = jnp.matmul(members.T, flat, precision=jax.lax.Precision.HIGHEST)
    return total.reshape(members.shape[1], *leaf.shape[1:])


@partial(jax.jit, static_argnums=2)
def sums(points: Points, labels: Array, count: int) -> tuple[Embedding, Array]:
    """The sum of each cluster's points, leaves [k, ...], and their number [k]."""
    members = _members(points, labels, count)
    return jax.tree.map(partial(_sums, members), points.values), members.sum(axis=0)


def means(total: Embedding, sizes: Array, before: Embedding) -> Embedding:
    """The mean of each cluster from its sum; an empty one stays where it was."""

    def mean(leaf: Array, old: Array) -> Array:
        size = sizes.reshape(-1, *(1,) * (leaf.ndim - 1))
        return jnp.where(size > 0, leaf / jnp.maximum(size, 1), old)

    return jax.tree.map(mean, total, before)


@partial(jax.jit, static_argnums=0)
def minibatch_step(
    distances: Callable, context: Any, batch: Points, centroids: Embedding, seen: Array
) -> tuple[Embedding, Array]:
    """Moves each centroid to the mean of all points it was given so far.

    Args:
      distances: of the space.
      context: likewise.
      batch: some of the points.
      centroids: leaves [k, ...].
      seen: how many points each was given before, [k].

    Returns:
      The next centroids and counts.
    """
    labels, _ = _nearest(batch, distances(context, batch.values, centroids))
    total, sizes = sums(batch, labels, seen.size)
    after = seen + sizes

    def moved(leaf: Array, old: Array) -> Array:
        shape = (-1, *(1,) * (leaf.ndim - 1))
        step = leaf - sizes.reshape(shape) * old
        return old + step / jnp.maximum(after.reshape(shape), 1)

    return jax.tree.map(moved, total, centroids), after
