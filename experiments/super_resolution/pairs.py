"""Pairs of pictures: large ones, and small ones made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import perceptual_jax as pj
from experiments.common.crops import Crops
from experiments.common.training import Batch

__all__ = ["Pairs", "small"]


def small(picture: np.ndarray, scale: int, resizer: str) -> np.ndarray:
    """What is left of a picture [h, w, 3] at a fraction of its sides, antialiased."""
    height, width = picture.shape[:2]
    return pj.images.resize(picture, (height // scale, width // scale), method=resizer)


class Pairs:
    """Batches of pairs of crops, by (seed, step) alone."""

    def __init__(self, files: list[Path], *, crop: int, scale: int, resizer: str, seed: int):
        """Small crops of `crop` pixels a side, made of large ones of these files."""
        self._crops, self._seed = Crops(files), seed
        self._crop, self._scale, self._resizer = crop, scale, resizer

    def batch(self, step: int, count: int) -> Batch:
        """Small crops uint8 [count, crop, crop, 3], and what is wanted, scale times as large."""
        rng = np.random.default_rng([self._seed, 7, step])
        wanted = [self._crops.draw(self._crop * self._scale, rng) for _ in range(count)]
        given = [small(image, self._scale, self._resizer) for image in wanted]
        return Batch(np.stack(given), np.stack(wanted))
