"""At what shift of the views each distance gives up: judged by how far its mean is from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

import perceptual_jax as pj
from experiments.common.data import EMBEDDED, embedded_picture
from experiments.common.figures import panels
from experiments.common.report import Report
from experiments.image_mean.config import Config
from experiments.image_mean.method import Mean

__all__ = ["JUDGE", "Endurance", "add_endurance", "endurance_of", "gives_up_at"]

JUDGE = "lpips-alex"


class Endurance(NamedTuple):
    """How distances fare as views are moved further.

    Attributes:
      to_nearest_view: of each distance's mean, by the judge: `{distance: [of each shift]}`.
      to_another_picture: the judge's mean distance of the unmoved view from other photographs.
      gives_up_at: `{distance: the shift in pixels at which its mean is half as far from the views
        as another picture is}`, or None if it is nearer at all of them.
    """

    to_nearest_view: dict[str, list[float]]
    to_another_picture: float
    gives_up_at: dict[str, float | None]


def endurance_of(config: Config, sets: dict[str, np.ndarray], means: dict[str, Mean]) -> Endurance:
    """Judges the means of a run of shifts: sharpness would take smears and noise for detail."""
    judge = pj.make(JUDGE)
    params, compare = judge.init(jax.random.key(config.seed)), jax.jit(judge.__call__)
    views = np.stack(list(sets.values()))
    by_set = {
        name: [
            float(np.min(compare(params, np.broadcast_to(image, same.shape), same)))
            for image, same in zip(mean.images, views, strict=True)
        ]
        for name, mean in means.items()
    }
    others = np.stack([pj.images.resize(embedded_picture(name), config.size) for name in EMBEDDED])
    first = views[int(np.argmin(config.shifts)), 0]
    values = np.sort(
        compare(params, np.broadcast_to(first, others.shape), others / np.float32(255))
    )
    # The picture may be one of them.
    another = float(np.mean(values[1:], dtype=np.float64))
    return Endurance(
        by_set,
        another,
        {name: gives_up_at(config.shifts, far, another / 2) for name, far in by_set.items()},
    )


def gives_up_at(shifts: Sequence[float], values: Sequence[float], limit: float) -> float | None:
    """The shift at which the values reach the limit, on straight lines between those measured."""
    order = np.argsort(shifts)
    x, y = np.asarray(shifts, float)[order], np.asarray(values, float)[order]
    above = np.flatnonzero(y >= limit)
    if len(above) == 0:
        return None
    i = above[0]
    return float(x[0] if i == 0 else np.interp(limit, y[i - 1 : i + 1], x[i - 1 : i + 1]))


def add_endurance(
    report: Report, shifts: Sequence[float], means: dict[str, Mean], endurance: Endurance
) -> None:
    """The plot and the table of a report."""
    figure, (left, right) = panels(2)
    order = np.argsort(shifts)
    x = np.asarray(shifts)[order]
    for name, values in endurance.to_nearest_view.items():
        left.plot(x, np.asarray(values)[order], marker="o", markersize=4, label=name)
        right.plot(x, means[name].sharpness[order], marker="o", markersize=4)
    left.axhline(endurance.to_another_picture / 2, color="grey", linestyle=":", linewidth=1)
    left.set(ylabel=f"{JUDGE} to the nearest view")
    left.legend(fontsize=8)
    right.set(ylabel="sharpness relative to inputs")
    for axes in (left, right):
        axes.set_xlabel("views are moved by up to, px")
    report.heading("At what shift does each give up?")
    report.text(
        f"How far each mean is from the view it is nearest to, by {JUDGE}. A distance has given up "
        "where its mean is half as far from every view as another photograph is, "
        f"{endurance.to_another_picture / 2:.2f}, the dotted line: sharp it may be, but of what?"
    )
    report.figure(figure, "Distance of every mean to the nearest view, and its sharpness")
    report.table(
        ["distance", *(f"{shift:g} px" for shift in x), "gives up at"],
        [
            [
                name,
                *(f"{value:.3f}" for value in np.asarray(values)[order]),
                _said(endurance.gives_up_at[name], max(shifts)),
            ]
            for name, values in endurance.to_nearest_view.items()
        ],
    )


def _said(shift: float | None, most: float) -> str:
    return f"more than {most:g} px" if shift is None else f"{shift:.1f} px"
