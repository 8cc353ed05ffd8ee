"""Judging what was put into holes, by what is inside of them alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np

import perceptual_jax as pj
from perceptual_jax.errors import InputError
from perceptual_jax.statistics import psnr

__all__ = ["Judge", "judge_by"]

Judge = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, float]]
"""`(made, wanted, mask) -> {measure: value}`, of uint8 images [h, w, 3] and a mask [h, w]."""


def judge_by(measures: Sequence[pj.Distance], *, seed: int) -> Judge:
    """PSNR of the colours inside of the mask, and means over it of distances' maps.

    Args:
      measures: distances with maps.
      seed: of their random draws.

    Raises:
      InputError: for a distance without a map.
    """
    for distance in measures:
        if distance.compare_maps is None:
            raise InputError(
                f"--measures: {distance.name} has no map of where pictures differ; take one that "
                "has, such as lpips-alex"
            )
    params = {each.name: each.init(jax.random.key(seed)) for each in measures}
    maps = {each.name: jax.jit(each.map) for each in measures}

    def judge(made: np.ndarray, wanted: np.ndarray, mask: np.ndarray) -> dict[str, float]:
        inside = made[mask].astype(np.float64) / 255, wanted[mask].astype(np.float64) / 255
        # A hole in a flat sky may be filled exactly, and means over pictures must be numbers.
        found = {"psnr": psnr(*inside, most=100.0)}
        for name, draw in maps.items():
            where = np.asarray(draw(params[name], made[None], wanted[None]))[0]
            found[name] = float(where[mask].mean(dtype=np.float64))
        return found

    return judge
