"""k-means' assignment, VGG-16 features: every image to the nearest of 20 centroids.

Ours embeds every image once and compares it with the centroids, embeddings too, by products of
matrices, as `perceptual-jax cluster` does; the plain double loop calls the distance on every pair
of an image and a centroid. The first round embeds; later ones, with the centroids moved, compare
what was embedded, where the loop does all of it again.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from benchmarks.timing import Peers, Row, Work
from experiments.cluster import spaces
from perceptual_jax._typing import Embedding, Params

__all__ = ["ROWS", "assign", "assign_in_loops"]

_SPEC = "vgg16(metric='l2')"
_CENTROIDS, _SIDE = 20, 64


def _images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, the first of them whatever the count, and centroids."""
    rng = np.random.default_rng(0)
    centroids = rng.random((_CENTROIDS, _SIDE, _SIDE, 3), dtype=np.float32)
    return rng.random((count, _SIDE, _SIDE, 3), dtype=np.float32), centroids


def assign(count: int, *, again: bool = False) -> Work:
    """Ours, the first round or one of those after it; the call returns the nearest, [count]."""
    distance = pj.make(_SPEC)
    params = distance.init(jax.random.key(0))
    images, centroids = jax.device_put(_images(count))
    embedded = jax.jit(distance.embed)(params, centroids)
    space = spaces.space_of(distance, params, embedded)
    origin = spaces.origin_of(space, embedded)
    centroids = jax.tree.map(jnp.subtract, embedded, origin)

    def points_of(params: Params, images: jax.Array) -> Embedding:
        return jax.tree.map(jnp.subtract, distance.embed(params, images), origin)

    @jax.jit
    def nearest(params: Params, context: Embedding, given: Embedding) -> jax.Array:
        points = given if again else points_of(params, given)
        return space.distances(context, points, centroids).argmin(axis=1)

    given = jax.jit(points_of)(params, images) if again else images
    call = partial(nearest, params, space.context, given)
    return Work(lambda: call().block_until_ready(), items=count)


def assign_in_loops(count: int, *, channels_last: bool = False) -> Work | None:
    """The plain double loop; None without PyTorch."""
    if find_spec("torch") is None:
        return None
    import torch

    from benchmarks import torch_forms

    torch_forms.use_all_cores()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    distance = torch_forms.DISTANCES[_SPEC](layout)
    images, centroids = (
        torch_forms.tensor(batch).contiguous(memory_format=layout).split(1)
        for batch in _images(count)
    )

    def call() -> list[int]:
        with torch.no_grad():
            distances = [[distance(x, y).item() for y in centroids] for x in images]
        return [min(range(_CENTROIDS), key=row.__getitem__) for row in distances]

    return Work(call, items=count)


_PEERS = {
    "PyTorch": Peers(
        {
            "double loop, PyTorch": partial(assign_in_loops, 2),
            "double loop, PyTorch, channels last": partial(assign_in_loops, 2, channels_last=True),
        },
        budget=0.01,
    )
}
_ROW = f"k-means {_CENTROIDS} centroids {_SIDE} px, an image"
ROWS = {
    _ROW: Row(partial(assign, 40), _PEERS),
    f"{_ROW}, a later round": Row(partial(assign, 40, again=True), _PEERS),
}
"""Times are of one image: ours takes 40 in a batch, the loop 2 one after the other."""
