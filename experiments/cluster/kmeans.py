"""k-means of points, on all devices; of very many, in minibatches.

Centroids are means. That the mean is nearest to its cluster, and so that the inertia falls, holds
where distances are squared Euclidean. In any other space the loop stops where the inertia no longer
falls, and keeps the best.

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

from experiments.cluster.spaces import Points, Space, chosen
from perceptual_jax._typing import Array, Embedding, Key

__all__ = [
    "Found",
    "assigned",
    "cost_of",
    "drawn",
    "lloyd",
    "means",
    "minibatch_step",
    "plus_plus",
    "sums",
]


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


# --- Where to start ------------------------------------------------------------------------


def plus_plus(space: Space, points: Points, count: int, key: Key) -> np.ndarray:
    """k-means++: each next centroid is a point, drawn by its distance to the nearest one so far.

    Of 2 + log k points drawn, the one counts that leaves the least inertia, as the authors advise.

    Args:
      space: where the points lie.
      points: at least `count` of them.
      count: how many centroids.
      key: of the draws.

    Returns:
      Which points, [count].
    """
    trials = 2 + int(np.log(count))
    nearest = jnp.full_like(points.weight, jnp.inf)
    odds, places = points.weight, []
    for number in range(count):
        keys = jax.random.split(jax.random.fold_in(key, number), trials if number else 1)
        candidates = _several(odds, keys)
        best, nearest, odds = _nearer(
            space.distances, space.context, points, chosen(points.values, candidates), nearest
        )
        places.append(int(candidates[best]))
    return np.asarray(places)


@jax.jit
def drawn(odds: Array, key: Key) -> Array:
    """The place of one of [n], as likely as its odds; points of odds 0 after it change nothing."""
    sums = jnp.cumsum(odds)
    level = (1 - jax.random.uniform(key)) * sums[-1]  # In (0, 1]: never a point of odds 0.
    return jnp.minimum(jnp.searchsorted(sums, level), odds.size - 1)


@jax.jit
def _several(odds: Array, keys: Key) -> Array:
    return jax.vmap(lambda key: drawn(odds, key))(keys)


@partial(jax.jit, static_argnums=0)
def _nearer(
    distances: Callable, context: Any, points: Points, candidates: Embedding, nearest: Array
) -> tuple[Array, Array, Array]:
    """The best candidate; with it, the distance to the nearest centroid, and the next odds."""
    found = jnp.minimum(distances(context, points.values, candidates), nearest[:, None])
    costs = found * points.weight[:, None]
    best = costs.sum(axis=0).argmin()
    odds = costs[:, best]
    # Where all points are equal to some that are taken, any will do.
    return best, found[:, best], jnp.where(odds.sum() > 0, odds, points.weight)


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
