"""The images that a distance finds nearest to others."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

import perceptual_jax as pj
from perceptual_jax._typing import Array, Embedding, ImageLike, Params

__all__ = ["distances_to"]

_AT_ONCE = 64


def distances_to(
    distance: pj.Distance, params: Params, queries: np.ndarray, images: np.ndarray
) -> np.ndarray:
    """The distance of every query [q, s, s, 3] to every image [p, s, s, 3]: [q, p].

    A few images are embedded at a time: all of them would take a megabyte each under VGG-16.
    """
    embedded = _embedded(distance, params, queries)
    found = []
    for start in range(0, len(images), _AT_ONCE):
        # The last ones wrap around, so that one program serves all.
        which = np.arange(start, start + min(_AT_ONCE, len(images))) % len(images)
        values = np.asarray(_to_some(distance, params, embedded, images[which]))
        found.append(values[:, : len(images) - start])
    return np.concatenate(found, axis=1)


@partial(jax.jit, static_argnums=0)
def _embedded(distance: pj.Distance, params: Params, images: ImageLike) -> Embedding:
    return distance.embed(params, images)


@partial(jax.jit, static_argnums=0)
def _to_some(distance: pj.Distance, params: Params, embedded: Embedding, some: ImageLike) -> Array:
    return pj.pairwise(distance, params, embedded, distance.embed(params, some))
