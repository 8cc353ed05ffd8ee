"""Draws six-distortions.png: six pictures that l2 cannot tell apart, as every distance ranks them.

python -m docs.figures.six_distortions    # every distance whose weights are here
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from docs.tables import available
from experiments.common.choices import compare_distortions, distorted_picture, draw_relative
from experiments.compare import scorer

matplotlib.use("Agg")
from matplotlib import pyplot as plt

OUT = Path(__file__).parent / "six-distortions.png"


def measured() -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, list[str]]:
    """The original, its distortions, every distance's values of them, and the distances' names."""
    rows, names = [], []
    original, distorted = distorted_picture("coffee")
    for distance, _ in available():
        values = compare_distortions(scorer([distance], seed=0)[1], original, distorted)
        rows.append([values[name][distance.name] for name in distorted])
        names.append(distance.name)
        print(distance.name, rows[-1], flush=True)
    return original, distorted, np.array(rows), names


def draw(original: np.ndarray, distorted: dict, values: np.ndarray, names: list[str]) -> None:
    """The pictures above a table of how far every distance finds them."""
    figure = plt.figure(figsize=(11, 2.2 + 0.24 * len(names)))
    heights = [1.5, 0.24 * len(names)]
    grid = figure.add_gridspec(2, 7, height_ratios=heights, hspace=0.01, wspace=0.04)
    pictures = [("original", original), *distorted.items()]
    for column, (title, picture) in enumerate(pictures):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(picture)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    draw_relative(figure.add_subplot(grid[1, 1:]), values, names)
    figure.savefig(OUT, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    draw(*measured())
    print(OUT)
