"""Judging enlarged pictures: PSNR and SSIM of luma, and distances of colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import perceptual_jax as pj
from experiments.compare import scorer
from perceptual_jax.distances.structural import LUMA
from perceptual_jax.statistics import psnr

__all__ = ["judge_by", "luma", "luma_psnr"]


def luma(image: np.ndarray) -> np.ndarray:
    """Y of YCbCr (ITU-R BT.601) of a uint8 image [h, w, 3]: [h, w], from 16/255 to 235/255."""
    return image.astype(np.float64) / 255 @ np.asarray(LUMA[:3]) + LUMA[3]


def luma_psnr(made: np.ndarray, wanted: np.ndarray) -> float:
    """The peak signal-to-noise ratio of luma, in dB, as super-resolution reports it.

    10 log10(1 / mean (luma(made) - luma(wanted))^2): the peak is that of 8 bits, 255, though luma
    ends at 235.

    Args:
      made: uint8 [h, w, 3].
      wanted: likewise.

    Returns:
      Infinite where both are the same.
    """
    return psnr(luma(made), luma(wanted))


Judge = Callable[[np.ndarray, np.ndarray], dict[str, float]]
"""`(made, wanted) -> {measure: value}`, of uint8 images [h, w, 3]."""


def judge_by(measures: Sequence[pj.Distance], *, scale: int, seed: int) -> Judge:
    """PSNR and SSIM of luma, and distances, all without a border of `scale` pixels.

    Args:
      measures: the distances.
      scale: how many pixels of each border are left out.
      seed: of the distances' random draws.
    """
    structure = pj.make("ssim(preset='luma')")
    _, score = scorer([structure, *measures], seed)

    def judge(made: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
        inner = np.s_[scale:-scale, scale:-scale]
        made, wanted = made[inner], wanted[inner]
        values = {name: float(v[0]) for name, v in score(made[None], wanted[None]).items()}
        similarity = 1 - values.pop(structure.name)
        return {"psnr": luma_psnr(made, wanted), "ssim": similarity, **values}

    return judge
