"""k-means under a distance: starts, minibatches, and pictures of the centroids."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.cluster import kmeans, spaces
from experiments.cluster.config import Config
from experiments.cluster.embedded import Embedded
from experiments.cluster.found import Clusters, scored
from experiments.common import checkpoint
from experiments.common.arrays import read_arrays
from experiments.common.data import Labelled
from experiments.common.loop import Interrupted
from experiments.common.mesh import replicate
from experiments.common.optimise import Problem, Schedule, adam_descent, descend
from experiments.common.progress import progress
from experiments.common.run_folder import RunFolder, file_name
from perceptual_jax._files import write_whole
from perceptual_jax._typing import Array, Embedding, Params
from perceptual_jax.errors import InputError

__all__ = ["by_means"]


def by_means(
    config: Config,
    embedded: Embedded,
    data: Labelled,
    clusters: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> Clusters:
    """k-means, from where it was stopped.

    Raises:
      Interrupted: when asked to stop; what is done is saved.
    """
    find = _in_minibatches if embedded.points is None else _whole
    labels, inertia = find(config, embedded, clusters, folder, asked_to_stop)
    picked = inertia.reshape(config.repeats, config.restarts).argmin(axis=1)
    picked = picked + np.arange(config.repeats) * config.restarts
    labels, inertia = labels[picked], inertia[picked] / len(data.images)
    best = int(inertia.argmin())
    centroids = embedded.means(labels[best], clusters)
    found = Clusters(
        labels,
        inertia,
        best,
        embedded.costs(centroids, labels[best]),
        {},
        scored(config, data, labels),
    )
    pictures = _optimised(config, embedded, found, centroids, folder, asked_to_stop)
    return dataclasses.replace(found, pictures=pictures)


def _whole(
    config: Config,
    embedded: Embedded,
    clusters: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's iterations on all images at once: labels [starts, n], inertia [starts]."""
    name, n, starts = embedded.distance.name, len(embedded.images), config.repeats * config.restarts
    saved = folder.path / "checkpoints" / f"starts-{file_name(name)}.npz"
    labels, inertia = _starts_done(saved, n)
    if len(inertia) == starts or embedded.points is None:
        return labels, inertia
    space, points = _by_coordinates(
        embedded, embedded.points, starts * clusters, folder, asked_to_stop
    )
    key = jax.random.fold_in(jax.random.key(config.seed), 4)
    title = f"{name}, k-means"
    folder.keep_metrics(
        line
        for line in folder.metrics()
        if line.get("distance") != name or line.get("start", 0) < len(inertia)
    )
    with progress(title, starts, unit="starts", done=len(inertia)) as advance:
        while len(inertia) < starts:
            own = jax.random.fold_in(key, len(inertia))
            places = kmeans.plus_plus(space, points, clusters, own)
            first = spaces.chosen(points.values, places)
            found = kmeans.lloyd(
                space, points, first, iterations=config.iterations, asked_to_stop=asked_to_stop
            )
            if found is not None:
                labels = np.concatenate([labels, found.labels[None, :n].astype(np.int32)])
                inertia = np.append(inertia, found.inertia)
                folder.log(distance=name, start=len(inertia) - 1, inertia=found.history)
                buffer = io.BytesIO()
                np.savez_compressed(buffer, labels=labels, inertia=inertia)
                saved.parent.mkdir(exist_ok=True)
                write_whole(saved, buffer.getvalue())
                advance()
            if asked_to_stop():
                done = f"{len(inertia)} of {starts} starts of {title}"
                raise Interrupted(f"stopped after {done}; go on with: {folder.resume_command}")
    return labels, inertia


_MOST_COORDINATES = 2048
"""Points that have coordinates found for them: the time is cubic in their number."""


def _by_coordinates(
    embedded: Embedded,
    points: spaces.Points,
    centroids: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[spaces.Space, spaces.Points]:
    """The points by coordinates where that takes less time than to do without.

    Where distances are compared pair by pair, some ten iterations of all starts would compare all
    points with that many times the centroids.
    """
    space, n = embedded.space, len(embedded.images)
    length = sum(leaf[0].size for leaf in jax.tree.leaves(points.values))
    most = min(_MOST_COORDINATES, length if space.euclidean else 10 * centroids)
    if n > most:
        return space, points
    if space.euclidean:
        return spaces.coordinates(space, points)
    columns = []
    title = f"{embedded.distance.name}, all pairs"
    size = points.weight.size
    with progress(title, size, unit="images") as advance:
        for begin in range(0, size, _COLUMNS):
            places = np.arange(begin, begin + _COLUMNS) % size
            others = spaces.chosen(points.values, places)
            found = spaces.distances_of(space.distances, space.context, points.values, others)
            columns.append(np.asarray(found))
            advance(min(_COLUMNS, size - begin))
            if asked_to_stop():
                raise Interrupted(f"stopped in {title}; go on with: {folder.resume_command}")
    return spaces.coordinates(space, points, np.concatenate(columns, axis=1)[:, :size])


_COLUMNS = 16
"""Images that all are compared with at a time."""


def _starts_done(saved: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    if not saved.exists():
        return np.empty((0, count), np.int32), np.empty(0)
    arrays = read_arrays(saved, "labels", "delete it to start over")
    labels, inertia = arrays.get("labels"), arrays.get("inertia")
    if (
        labels is None
        or inertia is None
        or labels.dtype != np.int32
        or inertia.dtype.kind != "f"
        or labels.shape != (*inertia.shape, count)
    ):
        raise InputError(
            f"{saved} holds no labels of {count} images: it is of another run; delete it to start "
            "over"
        )
    return labels, inertia


_SAVED_EVERY = 20
"""Minibatches between checkpoints."""


def _in_minibatches(
    config: Config,
    embedded: Embedded,
    clusters: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[np.ndarray, np.ndarray]:
    """The same in minibatches, of which each is embedded once for all starts."""
    name, n, size = embedded.distance.name, len(embedded.images), embedded.at_once
    starts, by_pass = config.repeats * config.restarts, n // size
    space = embedded.space
    steps = config.passes * by_pass
    saved = folder.path / "checkpoints" / f"minibatches-{file_name(name)}"

    def batch(step: int) -> spaces.Points:
        order = np.random.default_rng([config.seed, step // by_pass]).permutation(n)
        return embedded.batch(order[step % by_pass * size :][:size])

    first, key = batch(0), jax.random.fold_in(jax.random.key(config.seed), 4)
    places = [
        kmeans.plus_plus(space, first, clusters, jax.random.fold_in(key, number))
        for number in range(starts)
    ]
    state = replicate(
        [(spaces.chosen(first.values, place), jnp.zeros(clusters)) for place in places]
    )
    done, state = checkpoint.restore_latest(saved, state)
    with progress(f"{name}, k-means", steps, unit="minibatches", done=done) as advance:
        while done < steps:
            points = batch(done)
            state = [
                kmeans.minibatch_step(space.distances, space.context, points, *each)
                for each in state
            ]
            done += 1
            advance()
            stopping = asked_to_stop()
            if done % _SAVED_EVERY == 0 or done == steps or stopping:
                checkpoint.save(saved, done, state)
            if stopping:
                raise Interrupted(
                    f"stopped at minibatch {done} of {steps} of {name}; "
                    f"go on with: {folder.resume_command}"
                )
    labels, costs = embedded.assigned(*(centroids for centroids, _ in state))
    return labels, costs.astype(np.float64).sum(axis=1)


def _optimised(
    config: Config,
    embedded: Embedded,
    found: Clusters,
    centroids: Embedding,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> dict[int, np.ndarray]:
    """The images whose embeddings are nearest to the centroids, of the clusters shown."""
    shown = found.largest(config.shown)
    distance, labels = embedded.distance, found.labels[found.best]
    pixels = [embedded.images[labels == cluster].mean(axis=0) / 255 for cluster in shown]
    first = jnp.asarray(np.stack(pixels), jnp.float32)
    if config.mean_steps == 0:
        return {}
    scale = max(float(found.cost.mean()), 1e-12)
    targets = jax.tree.map(
        lambda leaf, shift: leaf[np.asarray(shown)] + shift, centroids, embedded.origin
    )

    def loss(context: tuple[Params, Embedding], images: Array) -> Array:
        params, targets = context
        far = distance.compare(params, distance.embed(params, images), targets)
        return far / scale + config.mean_smoothness * pj.total_variation(images)

    images = descend(
        Problem(
            adam_descent(loss, learning_rate=config.mean_rate),
            # Not those of all devices: as many have a part in this as divide the clusters.
            lambda draw: (distance.init(jax.random.key(config.seed)), targets),
        ),
        first,
        Schedule(config.mean_steps, max(config.mean_steps // 2, 1)),
        label={"distance": distance.name, "what": "centroids"},
        folder=folder,
        asked_to_stop=asked_to_stop,
    ).images
    return dict(zip(shown, images, strict=True))
