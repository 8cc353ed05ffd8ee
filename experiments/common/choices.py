"""Which of two damaged pictures is nearer, where it is known how people choose.

Of six distortions of equal l2 people barely mind three and dislike the others.

References:
  Z. Wang, A. Bovik, "Mean Squared Error: Love It or Leave It?", IEEE Signal Processing Magazine
  2009: the six distortions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import perceptual_jax as pj
from experiments.common.data import embedded_picture
from experiments.common.distortions import DISTORTIONS, equally_far
from experiments.compare import Score

__all__ = [
    "DISLIKED",
    "MILD",
    "ROOT_MEAN_SQUARE",
    "agreement",
    "compare_distortions",
    "distorted_picture",
    "draw_relative",
]

MILD = ("brighter", "less contrast", "moved")
"""The distortions that people barely mind."""
DISLIKED = tuple(name for name in DISTORTIONS if name not in MILD)
"""Those that they dislike."""
ROOT_MEAN_SQUARE = 0.055
"""How far every distorted picture is from the original, on the [0, 1] scale."""
_TIE = 0.005
"""Two values are the same if they are no further apart, relative to the larger."""


def distorted_picture(name: str, size: int = 256) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A photograph [h, w, 3] in [0, 1], and `{distortion: the same, damaged}` at equal l2."""
    picture = pj.images.resize(embedded_picture(name), size)
    original = picture.astype(np.float32) / 255
    return original, {
        name: equally_far(original, distort, ROOT_MEAN_SQUARE)
        for name, distort in DISTORTIONS.items()
    }


def compare_distortions(
    score: Score, original: np.ndarray, distorted: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """`{distortion: {distance: value}}`, by a function that `compare.scorer` makes."""
    return {
        name: {d: float(v[0]) for d, v in score(original[None], image[None]).items()}
        for name, image in distorted.items()
    }


def agreement(
    names: list[str], pictures: list[dict[str, dict[str, float]]]
) -> dict[str, dict[str, float]]:
    """How often a distance puts what people barely mind before what they dislike.

    Args:
      names: of the distances.
      pictures: of each, `{distortion: {distance: value}}`.

    Returns:
      `{distance: {distortion that people barely mind: score, ..., "all": their mean}}`.
    """

    def score(name: str, mild: str) -> float:
        chosen = [
            _nearer(values[mild][name], values[other][name])
            for values in pictures
            for other in DISLIKED
        ]
        return float(np.mean(chosen))

    rows = {name: {mild: score(name, mild) for mild in MILD} for name in names}
    return {name: {**row, "all": float(np.mean([*row.values()]))} for name, row in rows.items()}


def _nearer(first: float, second: float) -> float:
    """1 if the first is nearer, 0 if the second is, one half if it cannot be told."""
    if abs(first - second) <= _TIE * max(first, second):
        return 0.5
    return float(first < second)


def draw_relative(axes: Any, values: np.ndarray, names: list[str]) -> None:
    """Draws a table of distances relative to their means: what is nearer green, farther red.

    The distances that put what people dislike farthest stand first.

    Args:
      axes: of matplotlib.
      values: of every distance, of the distortions in their order, [distances, distortions].
      names: of the distances.
    """
    relative = values / values.mean(axis=1, keepdims=True)
    agree = relative[:, len(MILD) :].mean(axis=1) - relative[:, : len(MILD)].mean(axis=1)
    order = np.argsort(-agree)
    relative = relative[order]
    shade = np.log2(np.maximum(relative, 1e-3))
    axes.imshow(shade, cmap="RdYlGn_r", vmin=-1.5, vmax=1.5, aspect="auto")
    for row, column in np.ndindex(*relative.shape):
        colour = "white" if abs(shade[row, column]) > 1.1 else "black"
        text = f"{relative[row, column]:.2f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axes.axvline(len(MILD) - 0.5, color="black", linewidth=1.5)
    axes.set_yticks(range(len(names)), [names[index] for index in order], fontsize=8)
    axes.set_xticks([])
    axes.set_xlabel("distance relative to the mean over the six", fontsize=9)
