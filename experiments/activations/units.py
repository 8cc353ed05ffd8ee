"""The units of a network: which pixels one sees, and where it answers most."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from experiments.common.mesh import shard_leading
from perceptual_jax._typing import Array, ImageLike
from perceptual_jax.backbones import Backbone, ReceptiveField
from perceptual_jax.backbones.network import LayerParams
from perceptual_jax.distances.features import imagenet_normalised

__all__ = [
    "Network",
    "Unit",
    "cropped",
    "strongest",
    "strongest_of_all",
    "varied_channels",
    "without_border",
]


class Network(NamedTuple):
    """A backbone with its params.

    Attributes:
      backbone: the table of layers.
      params: `{layer: {"kernel", "bias"}}`.
    """

    backbone: Backbone
    params: LayerParams

    def features(self, images: ImageLike, layer: str) -> Array:
        """What a layer answers to images [n, h, w, 3] in [0, 1]: [n, h', w', c]."""
        return _features(self.backbone, self.params, images, layer)


@partial(jax.jit, static_argnums=(0, 3))
def _features(backbone: Backbone, params: LayerParams, images: Array, layer: str) -> Array:
    return backbone.features(params, imagenet_normalised(2 * images - 1), (layer,))[layer]


class Unit(NamedTuple):
    """One output of a channel and what it answers; larger answers compare as larger.

    Attributes:
      value: the answer.
      image: the number of the image.
      row: of the layer's output.
      column: likewise.
    """

    value: float
    image: int
    row: int
    column: int


def without_border(maps: np.ndarray, field: ReceptiveField, side: int) -> np.ndarray:
    """Answers [n, h, w, c] with 0 in the place of those to the border of the image.

    Padding is an edge that no photograph has, and some channels answer to it alone. Units stay
    that see at most a quarter of their side from outside of an image of this side; all of them
    stay where there are none.
    """
    inner = []
    for count in maps.shape[1:3]:
        first = field.centre + field.stride * np.arange(count) - (field.size - 1) / 2
        kept = (first >= -field.size / 4) & (first + field.size <= side + field.size / 4)
        inner.append(kept if kept.any() else np.ones_like(kept))
    return maps * (inner[0][:, None] & inner[1])[None, :, :, None].astype(maps.dtype)


def varied_channels(maps: np.ndarray, count: int) -> list[int]:
    """The channels of [h, w, c] whose answers differ most between places, the most first."""
    return np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:count].tolist()


def strongest(maps: np.ndarray, count: int, apart: int, image: int = 0) -> list[Unit]:
    """The places where a channel answers most.

    Args:
      maps: [h, w].
      count: how many at most; places that answer with 0 or less do not count.
      apart: how many rows or columns are between any two, at least.
      image: the number of the image.

    Returns:
      Units, the strongest first.
    """
    left = np.array(maps, np.float32)
    units: list[Unit] = []
    while len(units) < count:
        row, column = map(int, np.unravel_index(left.argmax(), left.shape))
        if not left[row, column] > 0:
            break
        units.append(Unit(float(left[row, column]), image, row, column))
        rows = slice(max(row - apart + 1, 0), row + apart)
        left[rows, max(column - apart + 1, 0) : column + apart] = 0
    return units


def strongest_of_all(
    network: Network,
    images: Iterable[np.ndarray],
    layer: str,
    channels: Sequence[int],
    count: int,
) -> list[list[Unit]]:
    """For every channel the units that answer most to any of the images.

    Args:
      network: whose.
      images: batches [n, h, w, 3] in [0, 1].
      layer: its layer.
      channels: of the layer.
      count: how many units of each. What two of them see of one image overlaps by half its side
        at most.
    """
    field = network.backbone.receptive_field(layer)
    apart = max(1, -(-field.size // (2 * field.stride)))
    found: list[list[Unit]] = [[] for _ in channels]
    first = 0
    for batch in images:
        answers = network.features(shard_leading(batch, len(batch)), layer)
        maps = without_border(np.asarray(answers[..., np.asarray(channels)]), field, batch.shape[1])
        for number, of_image in enumerate(maps, start=first):
            for place, units in enumerate(found):
                new = strongest(of_image[..., place], count, apart, number)
                found[place] = heapq.nlargest(count, [*units, *new])
        first += len(batch)
    return found


def cropped(
    image: np.ndarray, field: ReceptiveField, row: int, column: int, outside: float = 0.5
) -> np.ndarray:
    """What a unit sees: [size, size, c] of the image; what is outside of it is of one value."""
    top, left = (
        round(field.centre + field.stride * place - (field.size - 1) / 2) for place in (row, column)
    )
    window = np.full((field.size, field.size, image.shape[2]), outside, image.dtype)
    rows = slice(max(top, 0), min(top + field.size, image.shape[0]))
    columns = slice(max(left, 0), min(left + field.size, image.shape[1]))
    window[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[
        rows, columns
    ]
    return window
