"""What commands that train generators share: how a run goes, and what it is judged by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

import perceptual_jax as pj
from experiments.common import options
from experiments.common.batches import floats, in_batches
from experiments.common.film import add_film, due
from experiments.common.image_sets import SetJudge, SetScore, feature_distance
from experiments.common.learned import Pictures, forget_cache, learned_and_held_out
from experiments.common.loop import interruptible
from experiments.common.losses import Sum, parsed, say_weights, weighed
from experiments.common.outcomes import (
    SHOWN,
    Outcome,
    add_outcomes,
    add_sets,
    curves,
    write_pictures,
)
from experiments.common.progress import console, progress
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, start
from experiments.common.training import Method, Schedule, State, Trained, check_batches
from experiments.compare import scorer
from perceptual_jax.errors import InputError
from perceptual_jax.statistics import gradient_energy

__all__ = ["Judge", "introduction", "under_each", "warmed_up"]

_WARM_UP = "l2"
"""What every training begins under, where that is asked for."""


# --- Judging -------------------------------------------------------------------------------


Judge = Callable[[np.ndarray, np.ndarray], dict[str, float]]
"""`(made, wanted) -> {measure: mean, ..., "sharpness": gradient energy over that of what was
wanted}`, of images [n, h, w, 3] in [0, 1]."""


def judge_by(measures: Sequence[pj.Distance], *, batch: int, seed: int) -> Judge:
    """Means over images of distances, and the sharpness relative to what was wanted.

    Args:
      measures: the distances.
      batch: how many images to compare at a time.
      seed: of the distances' random draws.
    """
    _, score = scorer(measures, seed)

    def judge(made: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
        values = in_batches(
            lambda pairs: score(pairs[:, 0], pairs[:, 1]), np.stack([made, wanted], axis=1), batch
        )
        energy, wanted_energy = (float(gradient_energy(x).mean()) for x in (made, wanted))
        means = {name: float(numbers.mean(dtype=np.float64)) for name, numbers in values.items()}
        return {**means, "sharpness": energy / max(wanted_energy, 1e-30)}

    return judge


# --- A command's run -----------------------------------------------------------------------


def under_each(
    command: str,
    config: Any,
    learn: Callable[[pj.Distance, Pictures, Pictures, Judge, RunFolder, Callable], Outcome],
    introduced: Callable[[int], Report],
) -> dict[str, Outcome]:
    """Learns under every distance, and writes the run's folder.

    Args:
      command: its name.
      config: its options, resumed and checked.
      learn: `(distance, pictures to learn from, pictures held out, judge, folder, asked_to_stop)
        -> Outcome`.
      introduced: `how many pictures were learned from -> ` a report's first lines.

    Returns:
      `{distance: Outcome}`.

    Raises:
      InputError: for data and distances that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    sums = _sums(config)
    measures = options.made(config.measures, config.size, "--measures")
    neighbours = options.made(config.neighbours, config.size, "--neighbours")
    features = feature_distance(config.feature_weights)
    parts = [part for total in sums for part in total.distances]
    folder = start(command, config, distances=[*parts, *measures, *neighbours, features])
    with nullcontext() if config.resume else folder.discarded_on_error():
        learned, held = learned_and_held_out(
            config.data,
            size=config.size,
            count=config.images,
            held_out=config.held_out,
            seed=config.seed,
            memory=config.memory,
            folder=folder,
        )
        check_batches(len(learned.images), config.batch, config.microbatches)
    console.print(f"{len(learned.images)} images to learn from, {len(held.images)} held out")
    judge = judge_by(measures, batch=config.batch, seed=config.seed)
    # Networks begin with grey pictures: there the parts of a sum are made equally large.
    wanted = floats(learned.images[: config.batch])
    distances = [
        weighed(total, np.full_like(wanted, 0.5), wanted, seed=config.seed) for total in sums
    ]
    say_weights(sums, distances)
    with interruptible() as asked_to_stop:
        outcomes = {
            distance.name: learn(distance, learned, held, judge, folder, asked_to_stop)
            for distance in distances
        }
    judge_set = SetJudge(
        learned.images,
        group=min(len(held.images), config.samples),
        neighbours=neighbours,
        features=features,
        seed=config.seed,
    )
    sets, outcomes = _judged_sets(judge_set, floats(held.images[: config.samples]), outcomes)
    report = introduced(len(learned.images))
    with folder.writing("the report", "what was trained is kept"):
        _write(config, folder, report, learned, held, outcomes, judge_set, sets)
    forget_cache(folder)
    return outcomes


def _sums(config: Any) -> list[Sum]:
    """What to learn under."""
    sums = parsed(config.distances, config.size, "--distances")
    for total in sums:
        if total.adversary:
            raise InputError(
                f"--distances: nothing is trained against an adversary here: {total.name!r}"
            )
    return sums


def warmed_up(
    training: Callable[..., Trained],
    method: Method,
    images: np.ndarray,
    schedule: Schedule,
    epochs: int,
) -> State | None:
    """What some epochs under l2 come to, for all distances to begin with; None for no epochs.

    It is learned once in a run: afterwards its last checkpoint is read.

    Args:
      training: `train`, with all other options.
      method: what is trained afterwards, whose distance is put aside.
      images: to learn from.
      schedule: of what comes afterwards, whose number of epochs is put aside.
      epochs: how many.
    """
    if not epochs:
        return None
    return training(
        method._replace(distance=pj.make(_WARM_UP)),
        images,
        schedule._replace(epochs=epochs),
        label={"distance": f"{_WARM_UP}, before all"},
    ).state


def introduction(warm_up: int) -> str:
    """What a page says of such epochs."""
    if not warm_up:
        return ""
    epochs = "an epoch" if warm_up == 1 else f"{warm_up} epochs"
    return f" All of them begin with what {epochs} under {_WARM_UP} came to."


def _judged_sets(
    judge_set: SetJudge, held: np.ndarray, outcomes: Mapping[str, Outcome]
) -> tuple[SetScore, dict[str, Outcome]]:
    """What was found of the images held out, and outcomes with what was of theirs."""
    found = {}
    total = len(held) * (1 + len(outcomes))
    total += sum(len(each) for outcome in outcomes.values() for each in outcome.samples.values())
    with progress("sets of images", total, unit="images") as advance:

        def judged(images: np.ndarray) -> SetScore:
            score = judge_set(images)
            advance(len(images))
            return score

        of_held = judged(held)
        for name, outcome in outcomes.items():
            made = {"reconstructed": outcome.reconstructions[: len(held)], **outcome.samples}
            sets = {row: judged(images) for row, images in made.items()}
            found[name] = dataclasses.replace(outcome, sets=sets)
    return of_held, found


def _write(
    config: Any,
    folder: RunFolder,
    report: Report,
    learned: Pictures,
    held: Pictures,
    outcomes: Mapping[str, Outcome],
    judge_set: SetJudge,
    of_held: SetScore,
) -> None:
    """Pictures, results.json and the report."""
    originals, wanted = floats(learned.images[:SHOWN]), floats(held.images)
    write_pictures(folder, wanted, learned.images, outcomes)
    results = {name: outcome.measures for name, outcome in outcomes.items()}
    sets = {
        name: {row: score.measures for row, score in outcome.sets.items()}
        for name, outcome in outcomes.items()
    }
    counts = {"learned": len(learned.images), "held out": len(held.images)}
    counts |= {"samples": config.samples, "a group": judge_set.group}
    folder.write_json(
        "results.json",
        {"held_out": results, "sets": {"images": counts, "held out": of_held.measures, **sets}},
    )
    add_outcomes(report, originals, wanted, outcomes)
    add_sets(report, learned.images, counts, of_held, outcomes)
    report.heading("On the way")
    logged = {name: [line["step"] for line in each.metrics] for name, each in outcomes.items()}
    shown = {name: due(steps, config.snapshot_every) for name, steps in logged.items()}
    add_film(report, folder, {name: {step: step for step in each} for name, each in shown.items()})
    report.figure(curves(outcomes), "Loss and sharpness of every distance against epochs")
    report.how_it_was_made(
        config,
        "The images are views of five photographs, moved and bent, and every other one "
        "mirrored: held-out views are new views of photographs that were learned from."
        if config.data == "embedded"
        else "",
    )
    report.write(folder.path / "report.html")
    for name, values in results.items():
        table = ", ".join(f"{measure} {value:.4g}" for measure, value in values.items())
        console.print(f"{name}: held-out {table}")
    console.print(f"report: {folder.path / 'report.html'}")
