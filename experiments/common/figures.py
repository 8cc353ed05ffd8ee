"""Figures as all reports draw them: without frames, side by side, legends out of the curves' way.

Matplotlib's global state (pyplot) is left alone: a figure goes when its page is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["RELATIVE_LOSS", "legend_beside", "panels", "plot_dotted", "relative"]

RELATIVE_LOSS = "loss / first logged loss"
"""What the axis of `relative` losses is called."""


def panels(
    count: int = 1, *, size: tuple[float, float] = (10.0, 3.6), **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of axes side by side, without the upper and the right side of their frames.

    Args:
      count: how many.
      size: of all together, in inches.
      options: what else Matplotlib's `Figure.subplots` takes.
    """
    figure = Figure(figsize=size, layout="constrained")
    found = list(figure.subplots(1, count, squeeze=False, **options)[0])
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found


def plot_dotted(axes: Axes, x: Iterable[float], y: Iterable[float], name: str) -> None:
    """A curve with its points: a short run logs one number, of which there is no curve."""
    axes.plot(list(x), list(y), ".-", label=name)


def relative(losses: Iterable[float]) -> np.ndarray:
    """Losses as parts of the first one."""
    values = np.array(list(losses))
    return values / max(values[0], 1e-30)


def legend_beside(figure: Figure, axes: Axes) -> None:
    """The legend of one of the axes, for all of them, to their right: over no curve."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
