"""What networks come to under losses, watched on the way: for the claims about training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.claims.claim import Setting
from experiments.common.figures import panels, plot_dotted
from experiments.common.generators import Network
from experiments.common.training import Batch, Loss, Method, Schedule, Source, State, train
from experiments.compare import scorer
from perceptual_jax.statistics import psnr, relative_sharpness

__all__ = [
    "LPIPS",
    "Judge",
    "Task",
    "draw_ends",
    "draw_on_the_way",
    "ends",
    "judge_by",
    "table",
    "trained",
    "under_each",
]

LPIPS = "lpips-alex"
"""The judge of all of them, which is none of the losses."""
_SNAPSHOTS = 6

Judge = Callable[[np.ndarray], dict[str, float]]
"""`made -> {measure: number}`, of images [n, s, s, 3] in [0, 1]."""


class Task(NamedTuple):
    """What the trainings of a claim share, compiled once for all of them.

    Attributes:
      made_by: the network.
      use: the same, jitted.
      take: `step -> Batch`, by the step alone.
      batch: of how many.
      rate: of Adam; it falls to 0 along half a cosine.
      given: what the network is given to be judged, [n, ...].
      judge: of what it makes of that.
    """

    made_by: Network
    use: Callable[..., Any]
    take: Callable[[int], Batch]
    batch: int
    rate: float
    given: np.ndarray
    judge: Judge


def judge_by(specs: Sequence[str], wanted: np.ndarray, seed: int) -> Judge:
    """By distances of the catalogue, PSNR and sharpness, each a mean over what was wanted."""
    _, score = scorer([pj.make(spec) for spec in specs], seed)

    def judge(made: np.ndarray) -> dict[str, float]:
        found = jax.device_get(score(made, wanted))
        return {
            **{name: float(np.mean(values)) for name, values in found.items()},
            "psnr": psnr(made, wanted, most=100.0),
            "sharpness": float(np.mean(relative_sharpness(made, wanted))),
        }

    return judge


def trained(setting: Setting, task: Task, claim: str, loss: Loss) -> tuple[dict[str, Any], Any]:
    """What a network comes to under a loss, on pictures that it did not learn from.

    Returns:
      `{"steps": [...], "psnr": [...], "lpips-alex": [...], ..., "seconds": of a step}`, lists of
      each snapshot; and what it makes of what it is given, [n, s, s, 3] in [0, 1].
    """
    steps = max(setting.training_steps // _SNAPSHOTS, 1) * _SNAPSHOTS
    every = steps // _SNAPSHOTS
    since = time.perf_counter()

    def made_in(state: State) -> np.ndarray:
        params, running = jax.device_get((state.params, state.running))
        return np.clip(np.asarray(task.use(params, running, task.given)), 0, 1)

    def watch(step: int, state: State) -> dict[str, Any]:
        nonlocal since
        jax.block_until_ready(state.params)
        seconds = (time.perf_counter() - since) / every
        found = task.judge(made_in(state))
        since = time.perf_counter()
        return {**found, "seconds": seconds}

    state, metrics = train(
        Method(task.made_by, loss, optax.adam(optax.cosine_decay_schedule(task.rate, steps))),
        Source(task.take),
        Schedule(steps, task.batch, every, setting.seed),
        key=jax.random.key(setting.seed),
        label={"claim": claim, "under": loss.name},
        folder=setting.folder,
        asked_to_stop=setting.asked_to_stop,
        snapshot=watch,
    )
    found = {
        name: [line[name] for line in metrics]
        for name in metrics[0]
        if name not in ("claim", "under", "step", "epoch", "loss", "seconds")
    }
    # The first stretch compiles.
    seconds = float(np.median([line["seconds"] for line in metrics[1:]]))
    return {"steps": [line["step"] for line in metrics], **found, "seconds": seconds}, made_in(
        state
    )


def under_each(
    setting: Setting, task: Task, claim: str, losses: Mapping[str, Loss]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What networks come to under each of the losses.

    Returns:
      `{"under": {loss: numbers}}`, as `table` and the plots take them; and what each makes.
    """
    found = {name: trained(setting, task, claim, loss) for name, loss in losses.items()}
    numbers = {name: numbers for name, (numbers, _) in found.items()}
    return {"under": numbers}, {name: made for name, (_, made) in found.items()}


# --- Showing -------------------------------------------------------------------------------


def ends(numbers: dict[str, Any], measure: str) -> dict[str, float]:
    """What each came to in the end, by a measure."""
    return {name: each[measure][-1] for name, each in numbers["under"].items()}


def table(numbers: dict[str, Any], *, measures: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """What each came to in the end."""
    rows = [
        [name, *(f"{each[m][-1]:.4g}" for m in measures), f"{1e3 * each['seconds']:.0f}"]
        for name, each in numbers["under"].items()
    ]
    return ["trained under", *measures, "ms a step"], rows


def draw_ends(numbers: dict[str, Any], *, measures: Sequence[str]) -> tuple[Figure, str]:
    """Bars of each measure in the end."""
    figure, found = panels(len(measures), size=(10, 3.4))
    for axes, name in zip(found, measures, strict=True):
        last = ends(numbers, name)
        axes.bar(list(last), list(last.values()))
        axes.set_ylabel(name)
        axes.tick_params(axis="x", rotation=45)
        low, high = min(last.values()), max(last.values())
        axes.set_ylim(max(low - 0.5 * (high - low), 0), high + 0.1 * (high - low) + 1e-9)
    return figure, f"{', '.join(measures)} of test pictures, by what was trained under"


def draw_on_the_way(
    numbers: dict[str, Any], *, measures: Sequence[str], in_time: bool = False
) -> tuple[Figure, str]:
    """Each measure against steps; the first also against seconds, if that is asked for."""
    columns = [(measure, "step") for measure in measures]
    columns += [(measures[0], "seconds of training")] * in_time
    figure, found = panels(len(columns), size=(10, 3.8))
    for place, (axes, (measure, along)) in enumerate(zip(found, columns, strict=True)):
        for name, each in numbers["under"].items():
            pace = 1 if along == "step" else each["seconds"]
            along_them = [step * pace for step in each["steps"]]
            plot_dotted(axes, along_them, each[measure], name)
        axes.set(xlabel=along, ylabel=f"{measure} of test pictures")
        axes.set_xscale("linear" if along == "step" else "log")
        if place == 0:
            axes.legend(fontsize=8)
    return figure, f"{', '.join(measures)} of test pictures on the way of training"
