"""Patches of images, and those that a distance finds nearest to one."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from perceptual_jax.ops.windows import extract_windows, window_counts
from perceptual_jax.statistics import gradient_energy

__all__ = ["Patches", "cut", "detailed", "nearest"]


class Patches(NamedTuple):
    """Square patches of images.

    Attributes:
      pixels: [p, side, side, 3] in [0, 1].
      image: the number of the image of each, [p].
      corner: its top left pixel, row and column, [p, 2].
    """

    pixels: np.ndarray
    image: np.ndarray
    corner: np.ndarray

    def overlap(self, first: int, second: int) -> bool:
        """Whether two patches share more than half of their side, down and across."""
        apart = np.abs(self.corner[first] - self.corner[second])
        same = self.image[first] == self.image[second]
        return bool(same and (2 * apart < self.pixels.shape[1]).all())


def cut(images: np.ndarray, side: int, stride: int) -> Patches:
    """All patches of images [n, h, w, 3], every so many pixels."""
    count, height, width, _ = images.shape
    windows = np.asarray(extract_windows(jnp.asarray(images), side, stride))
    down, across = window_counts(height, width, side, stride)
    corners = np.indices((down, across)).reshape(2, -1).T * stride
    return Patches(
        windows.reshape(-1, side, side, 3),
        np.repeat(np.arange(count), down * across),
        np.tile(corners, (count, 1)),
    )


def detailed(patches: Patches, image: int, count: int) -> list[int]:
    """The patches of an image with the most gradient energy, that do not overlap much."""
    own = np.flatnonzero(patches.image == image)
    energy = np.asarray(gradient_energy(patches.pixels[own]))
    return _apart(patches, own[np.argsort(-energy, kind="stable")], [], count)


def nearest(patches: Patches, distances: np.ndarray, query: int, count: int) -> list[int]:
    """The patches nearest to one of them that do not overlap it, nor each other, by over half.

    Args:
      patches: among them the query.
      distances: of every patch to the query, [p].
      query: its number.
      count: how many.
    """
    return _apart(patches, np.argsort(distances, kind="stable"), [query], count)


def _apart(patches: Patches, ranked: np.ndarray, taken: list[int], count: int) -> list[int]:
    """The first of the ranked patches that overlap neither the taken ones nor each other."""
    chosen: list[int] = []
    for patch in ranked.tolist():
        if len(chosen) == count:
            break
        if not any(patches.overlap(patch, other) for other in [*taken, *chosen]):
            chosen.append(patch)
    return chosen
