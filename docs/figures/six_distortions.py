"""Draws six-distortions.png: six pictures that l2 cannot tell apart, as every distance ranks them.

python -m docs.figures.six_distortions    # every distance whose weights are here
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from docs.tables import available
from experiments.common.choices import compare_distortions, distorted_picture
from experiments.compare import scorer

matplotlib.use("Agg")
from matplotlib import pyplot as plt

OUT = Path(__file__).parent / "six-distortions.png"
MINDED_LESS = 3
"""People barely mind the first three distortions and dislike the others."""


def relative_values() -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, list[str]]:
    """The original, its distortions, and of every distance the values relative to their mean."""
    rows, names = [], []
    original, distorted = distorted_picture("coffee")
    for distance, _ in available():
        values = compare_distortions(scorer([distance], seed=0)[1], original, distorted)
        row = np.array([values[name][distance.name] for name in distorted])
        rows.append(row / row.mean())
        names.append(distance.name)
        print(distance.name, row, flush=True)
    return original, distorted, np.stack(rows), names


def draw(original: np.ndarray, distorted: dict, values: np.ndarray, names: list[str]) -> None:
    """The pictures above a table of ranks: 1 for the picture that a distance finds closest."""
    # Those that agree with people first.
    agreement = values[:, MINDED_LESS:].mean(axis=1) - values[:, :MINDED_LESS].mean(axis=1)
    order = np.argsort(-agreement)
    figure = plt.figure(figsize=(11, 2.2 + 0.24 * len(names)))
    heights = [1.5, 0.24 * len(names)]
    grid = figure.add_gridspec(2, 7, height_ratios=heights, hspace=0.01, wspace=0.04)
    pictures = [("original", original), *distorted.items()]
    for column, (title, picture) in enumerate(pictures):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(picture)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    axes = figure.add_subplot(grid[1, 1:])
    ranks = values.argsort(axis=1).argsort(axis=1) + 1
    axes.imshow(ranks[order], cmap="RdYlGn_r", vmin=1, vmax=6, aspect="auto")
    for row, index in enumerate(order):
        for column in range(6):
            text = f"{values[index, column]:.2f}"
            extreme = ranks[index, column] in (1, 6)
            colour = "white" if extreme else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axes.axvline(MINDED_LESS - 0.5, color="black", linewidth=1.5)
    axes.set_yticks(range(len(names)), [names[index] for index in order], fontsize=8)
    axes.set_xticks([])
    axes.set_xlabel(
        "distance relative to the mean over the six; green is what the distance finds closest",
        fontsize=9,
    )
    figure.savefig(OUT, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    draw(*relative_values())
    print(OUT)
