"""What a set of images is judged by: how it lies to the images that were learned from.

None has an original to be compared with, so sets are: their features' distributions, their patches'
distributions, and each image with what it is nearest to among the images learned from.

References:
  T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive Growing of GANs for Improved Quality,
  Stability, and Variation", ICLR 2018, https://arxiv.org/abs/1710.10196 (patches of the levels of
  a Laplacian pyramid under the sliced Wasserstein distance)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.batches import floats, in_batches
from experiments.common.neighbours import distances_to
from experiments.common.networks import Weights
from perceptual_jax._typing import ImageLike, Params
from perceptual_jax.ops.pyramids import laplacian_pyramid
from perceptual_jax.statistics import (
    frechet_distance,
    gradient_energy,
    kernel_distance,
    sliced_wasserstein,
)

__all__ = ["LAYER", "SetJudge", "SetScore", "feature_distance", "features_of", "patches_by_level"]

LAYER = "relu4_3"
"""Of VGG-16: the deepest layer whose places, at 32 px, do not mostly see what is beyond the
border."""

_REFERENCES = 10_000
"""The most images learned from that distributions are compared with; nearest are sought among
all."""

_AT_ONCE, _QUERIES_AT_ONCE = 32, 128


class SetScore(NamedTuple):
    """What was found of a set.

    Attributes:
      measures: `{name: number}`; NaN where the set is too small for one.
      nearest: `{distance: which image learned from is the nearest to each, [n]}`.
    """

    measures: dict[str, float]
    nearest: dict[str, np.ndarray]


class SetJudge:
    """Compares sets of images with the images that were learned from.

    Distances of distributions are larger for small sets, whatever these are of. All sets are
    therefore judged in groups of one size, that of the images held out if there are fewer of
    these than of samples; what is reported is the mean over whole groups. What images held out
    score, which nothing was lost of, is what there is to reach.
    """

    def __init__(
        self,
        learned: np.ndarray,
        *,
        group: int,
        neighbours: Sequence[pj.Distance],
        features: pj.Distance,
        seed: int,
    ):
        """Embeds the images learned from.

        Args:
          learned: uint8 [m, h, w, 3].
          group: how many images make a group, at least 2.
          neighbours: the distances under which nearest images are sought.
          features: what `feature_distance` makes.
          seed: of random draws.
        """
        self.group, self.learned = max(group, 2), learned
        self._seed, self._features = seed, features
        self._neighbours = [(each, each.init(jax.random.key(seed))) for each in neighbours]
        self._params = features.init(jax.random.key(seed))
        some = np.random.default_rng(seed).permutation(len(learned))[:_REFERENCES]
        references = floats(learned[np.sort(some)])
        self._energy = _energy(references)
        self._reference_features = features_of(features, self._params, references)
        levels = patches_by_level(references, seed)
        # In units of the learned images' deviation: every level counts alike.
        self._deviations = [max(float(level.std()), 1e-12) for level in levels]
        self._reference_patches = [
            level.reshape(-1, level.shape[-1]) / deviation
            for level, deviation in zip(levels, self._deviations, strict=True)
        ]

    def __call__(self, images: np.ndarray) -> SetScore:
        """Judges a set of images [n, h, w, 3] in [0, 1]."""
        features = features_of(self._features, self._params, images)
        levels = patches_by_level(images, self._seed)
        by_group = [
            self._apart(features[rows], [level[rows] for level in levels])
            for start in range(0, len(images) - self.group + 1, self.group)
            for rows in [slice(start, start + self.group)]
        ]
        network = self._features.name.split("(")[0]
        names = (f"frechet {network}", f"kernel {network}", "sliced wasserstein")
        means = np.mean(by_group, axis=0) if by_group else np.full(len(names), np.nan)
        measures = dict(zip(names, means.tolist(), strict=True))
        measures["sharpness"] = _energy(images) / max(self._energy, 1e-30)
        nearest = {}
        for distance, params in self._neighbours:
            apart = self._to_learned(distance, params, images)
            nearest[distance.name] = apart.argmin(axis=1)
            measures[f"nearest {distance.name}"] = float(apart.min(axis=1).mean(dtype=np.float64))
        return SetScore(measures, nearest)

    def _apart(self, features: np.ndarray, levels: Sequence[np.ndarray]) -> tuple[float, ...]:
        """The distances of distributions of one group."""
        sliced = [
            sliced_wasserstein(
                level.reshape(-1, level.shape[-1]) / deviation,
                reference,
                num_projections=_DIRECTIONS,
                seed=self._seed,
            )
            for level, deviation, reference in zip(
                levels, self._deviations, self._reference_patches, strict=True
            )
        ]
        return (
            frechet_distance(features, self._reference_features),
            kernel_distance(features, self._reference_features),
            float(np.mean(sliced)),
        )

    def _to_learned(self, distance: pj.Distance, params: Params, images: np.ndarray) -> np.ndarray:
        def distances(part: np.ndarray) -> np.ndarray:
            return distances_to(distance, params, part, self.learned)

        return in_batches(distances, images, _QUERIES_AT_ONCE)


def _energy(images: np.ndarray) -> float:
    return float(in_batches(gradient_energy, images, _AT_ONCE).mean(dtype=np.float64))


# --- Features ------------------------------------------------------------------------------


@cache
def feature_distance(weights: Weights) -> pj.Distance:
    """The distance whose embedding is VGG-16's features; made once, so that it is compiled once.

    Args:
      weights: of the network: trained, or random where there are none.
    """
    name = "vgg16" if weights == "trained" else f"vgg16-{weights}"
    return pj.make(name, layers=(LAYER,), metric="l2")


def features_of(distance: pj.Distance, params: Params, images: np.ndarray) -> np.ndarray:
    """The mean over places of every channel of `LAYER`: [n, h, w, 3] to [n, 512]."""
    return in_batches(lambda part: _means(distance, params, part), images, _AT_ONCE)


def _means_of(distance: pj.Distance, params: Params, images: ImageLike) -> Any:
    return distance.embed(params, images)[LAYER].mean(axis=(1, 2))


_means: Callable = jax.jit(_means_of, static_argnums=0)


# --- Patches -------------------------------------------------------------------------------

_PATCH, _PATCHES, _DIRECTIONS, _SMALLEST = 7, 32, 64, 16
_BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


def patches_by_level(images: np.ndarray, seed: int) -> list[np.ndarray]:
    """Patches of 7x7 pixels from random places of a Laplacian pyramid's levels.

    Args:
      images: [n, s, s, 3], s a power of two, at least 16.
      seed: of the places.

    Returns:
      For every level, the finest first, the last of 16x16 pixels: [n, 32, 147].
    """
    bands = (images.shape[1] // _SMALLEST).bit_length() - 1
    rng = np.random.default_rng(seed)
    found = []
    for level in _pyramid(images, bands):
        windows = np.lib.stride_tricks.sliding_window_view(level, (_PATCH, _PATCH), axis=(1, 2))
        shape = (len(images), _PATCHES)
        down, across = (rng.integers(0, windows.shape[axis], shape) for axis in (1, 2))
        patches = windows[np.arange(len(images))[:, None], down, across]
        found.append(patches.reshape(*shape, -1))
    return found


def _pyramid(images: np.ndarray, bands: int) -> list[np.ndarray]:
    levels = in_batches(lambda part: _levels(part, bands), images, _AT_ONCE)
    return list(levels)


def _levels_of(images: ImageLike, bands: int) -> list:
    return laplacian_pyramid(jnp.asarray(images), bands, _BINOMIAL)


_levels: Callable = jax.jit(_levels_of, static_argnums=1)
