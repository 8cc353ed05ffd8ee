"""Images as points: embedded once where that fits into memory, else whenever they are needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.cluster import kmeans, spaces
from experiments.cluster.spaces import Points, Space
from experiments.common.mesh import replicate, shard_leading
from experiments.common.progress import progress
from perceptual_jax._typing import Array, Embedding, ImageLike, Params

__all__ = ["Embedded", "embedded_images", "images_together"]

_ROOM = 3
"""Times the embeddings is what is taken at once: parts, the whole of them, and their products."""

_MINIBATCH = 1024
"""The most images of a minibatch whose size nobody chose."""


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Images as a distance sees them.

    Attributes:
      distance: which.
      params: its params, on all devices.
      images: uint8 [n, h, w, 3].
      space: that of the embeddings.
      origin: what is taken from embeddings to make points of them, leaves [1, ...].
      points: all images, or None where they do not fit into memory.
      at_once: how many images to take at a time.
      embed: `images uint8 [b, h, w, 3] -> embedding`.
    """

    distance: pj.Distance
    params: Params
    images: np.ndarray
    space: Space
    origin: Embedding
    points: Points | None
    at_once: int
    embed: Callable[..., Embedding]

    def batch(self, which: np.ndarray) -> Points:
        """Some of the images."""
        if self.points is None:
            return spaces.points_of(self.embed(self.images[which]), self.origin)
        places = np.resize(which, which.size + -which.size % jax.device_count())
        weight = jnp.asarray(np.arange(places.size) < which.size, jnp.float32)
        return shard_leading(Points(spaces.chosen(self.points.values, places), weight), places.size)

    def blocks(self) -> Iterator[tuple[np.ndarray, Points]]:
        """All images, so many at a time as fit: their places, and they."""
        n = len(self.images)
        if self.points is not None:
            yield np.arange(n), self.points
            return
        for start in range(0, n, self.at_once):
            which = np.arange(start, min(start + self.at_once, n))
            yield which, self.batch(which)

    def point_of(self, images: ImageLike) -> Embedding:
        """Other images as points."""
        embedded = self.embed(pj.images.to_uint8(images))
        return jax.tree.map(lambda leaf, shift: leaf - shift, embedded, self.origin)

    def means(self, labels: np.ndarray, clusters: int) -> Embedding:
        """The mean of each cluster's points, leaves [k, ...]; the origin where it has none."""
        total, sizes = None, jnp.zeros(clusters)
        for which, points in self.blocks():
            part, count = kmeans.sums(points, _filled(labels[which], points), clusters)
            total = part if total is None else jax.tree.map(jnp.add, total, part)
            sizes = sizes + count
        nothing = jax.tree.map(jnp.zeros_like, total)
        return kmeans.means(total, sizes, nothing)

    def costs(self, centroids: Embedding, labels: np.ndarray) -> np.ndarray:
        """How far each image is from the centroid of its label, [n]."""
        found = np.empty(len(self.images), np.float32)
        for which, points in self.blocks():
            cost = kmeans.cost_of(
                self.space.distances,
                self.space.context,
                points,
                centroids,
                _filled(labels[which], points),
            )
            found[which] = np.asarray(cost)[: which.size]
        return found

    def assigned(self, *starts: Embedding) -> tuple[np.ndarray, np.ndarray]:
        """Under each set of centroids, the nearest of each image and how far it is: [s, n]."""
        labels = np.empty((len(starts), len(self.images)), np.int32)
        costs = np.empty(labels.shape, np.float32)
        for which, points in self.blocks():
            for row, centroids in enumerate(starts):
                found = kmeans.assigned(self.space.distances, self.space.context, points, centroids)
                labels[row, which], costs[row, which] = (
                    np.asarray(each)[: which.size] for each in found
                )
        return labels, costs


def _filled(labels: np.ndarray, points: Points) -> Array:
    """Labels of points that are filled up."""
    return shard_leading(
        jnp.asarray(np.resize(labels, points.weight.size), jnp.int32), points.weight.size
    )


def images_together(
    distance: pj.Distance, images: np.ndarray, memory: float, minibatch: int
) -> int:
    """How many images are taken at a time; as `embedded_images`, of which it computes nothing.

    Raises:
      InputError: for images that the distance cannot embed, or weights that are missing.
    """
    params = jax.eval_shape(distance.init, jax.random.key(0))
    one = jax.eval_shape(distance.embed, params, jax.ShapeDtypeStruct(images[:1].shape, np.uint8))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
    fitting = max(2, int(memory * 2**30) // (_ROOM * max(size, 1)))
    if minibatch == 0 and len(images) > fitting:
        minibatch = min(fitting, _MINIBATCH)
    return min(minibatch or len(images), len(images))


def embedded_images(
    distance: pj.Distance,
    images: np.ndarray,
    *,
    seed: int,
    images_at_once: int,
    memory: float,
    minibatch: int,
) -> Embedded:
    """Embeds images.

    Args:
      distance: of any kind.
      images: uint8 [n, h, w, 3], at least two.
      seed: of the distance's random draws.
      images_at_once: how many a device embeds at once.
      memory: what embeddings may take, with room to work, in GiB.
      minibatch: how many images to take at a time; 0 for all if they fit, else as many as do, at
        most 1024.
    """
    params = replicate(distance.init(jax.random.key(seed)))
    embed = _embedder(distance, params, images_at_once * jax.device_count())
    at_once = images_together(distance, images, memory, minibatch)
    whole = at_once == len(images)
    if whole:
        with progress(f"{distance.name}, embedding", len(images), unit="images") as advance:
            embedding = embed(images, advance)
    else:
        rng = np.random.default_rng(seed)
        embedding = embed(images[rng.permutation(len(images))[:at_once]])
    sample = np.linspace(0, at_once - 1, min(at_once, 4)).astype(int)
    space = spaces.space_of(distance, params, spaces.chosen(embedding, sample))
    origin = spaces.origin_of(space, embedding)
    points = spaces.points_of(embedding, origin) if whole else None
    return Embedded(distance, params, images, space, origin, points, at_once, embed)


def _embedder(distance: pj.Distance, params: Params, count: int) -> Callable[..., Embedding]:
    """`(images [b, h, w, 3], advance) -> embedding` of any number, so many at a time."""
    program = jax.jit(lambda params, images: distance.embed(params, images))

    def embed(images: np.ndarray, advance: Callable[[int], None] = lambda done: None) -> Embedding:
        parts = []
        together = min(count, len(images) + -len(images) % jax.device_count())
        for start in range(0, len(images), together):
            part = images[start : start + together]
            filled = part[np.arange(together) % len(part)]
            embedding = program(params, shard_leading(filled, together))
            parts.append(spaces.chosen(embedding, np.arange(len(part))))
            jax.block_until_ready(parts[-1])
            advance(len(part))
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    return embed
