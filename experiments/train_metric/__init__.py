"""A distance learned from what people said: heads on the features of another distance.

Every channel of the features gets a weight of at least 0, so that the distance chooses as people
do. As in LPIPS, a small network turns the two distances of a triplet into the probability that
people choose the second image, and both are trained on what they chose; the network is then
thrown away. What is learned is one of

    --mode lin      the weights of channels: the features are computed once, an epoch takes seconds
    --mode tune     the network that makes the features as well, from its pretrained weights
    --mode scratch  the same from random weights

    perceptual-jax train-metric --data train.csv --test test.csv
    perceptual-jax train-metric --data train.csv --test test.csv --mode tune --epochs 10
    perceptual-jax compare a.png b.png --distances runs/train-metric/NAME/metric.safetensors

What is learned is what scored best on the triplets held out. A score on images that were learned
from says nothing of other images; the report says how many were.

References:
  R. Zhang, P. Isola, A. Efros, E. Shechtman, O. Wang, "The Unreasonable Effectiveness of Deep
  Features as a Perceptual Metric", CVPR 2018, https://arxiv.org/abs/1801.03924
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import perceptual_jax as pj
from experiments.common.loop import Interrupted, interruptible
from experiments.common.pairs import Stopped
from experiments.common.progress import progress
from experiments.common.run_folder import RunFolder, resumed, start
from experiments.common.triplets import Judgements, judgements, read_resized
from experiments.train_metric import heads, networks
from experiments.train_metric.config import PRESETS, Config, check
from experiments.train_metric.method import Learner, train
from experiments.train_metric.networks import Triplets
from experiments.train_metric.report import Outcome, write
from perceptual_jax.statistics import bootstrap_means, human_ceiling, interval

__all__ = ["PRESETS", "Config", "Outcome", "run"]


def run(config: Config) -> Outcome:
    """Learns a distance, scores it, and writes the run's folder with `metric.safetensors`.

    Raises:
      InputError: for data or options that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("train-metric", config)
    trunk = pj.make(config.trunk)
    layers = heads.channels_of(trunk, config.size)
    data = _data(config, config.data, config.seed)
    test = None if config.test is None else _data(config, config.test, config.seed + 1)
    order = np.random.default_rng(config.seed).permutation(len(data.items))
    held = round(len(order) * config.held_out)
    check(config, learning=len(order) - held, held=held)
    params = None if config.mode == "lin" else networks.starting_params(config, trunk)
    folder = start("train-metric", config, distances=[trunk])
    with interruptible() as asked_to_stop:
        try:
            parts = _parts(config, data, test, trunk, folder, asked_to_stop)
        except Stopped:
            raise Interrupted(f"stopped; go on with: {folder.resume_command}") from None
        held_out, learning = parts["data"].at(order[:held]), parts["data"].at(order[held:])
        steps = len(learning.judge) // config.batch
        if params is None:
            learner = heads.learner(config, sum(layers.values()), steps)
            scored = {"learned_from": learning, "held_out": held_out}
        else:
            images = max(len(each.names) for each in (data, test) if each is not None)
            learner = networks.learner(config, trunk, params, images=images, steps=steps)
            # As many as are held out: to score them all would take as long as half an epoch.
            scored = {"learned_from": learning.at(np.arange(held)), "held_out": held_out}
        state, epochs = train(config, learner, learning, scored, folder, asked_to_stop)
        best = state.best
        final = parts.get("test", held_out)
        agreement = _agreement(config, learner, best, final, folder, asked_to_stop)
    images, known = _images(data, test, learned_from=order[held:], held_out=order[:held])
    outcome = Outcome(
        heads=np.asarray(best["heads"]),
        trunk=None if params is None else {**params, **jax.tree.map(np.asarray, best["trunk"])},
        **_intervals(config, agreement),
        ceiling=float(human_ceiling(final.judge).mean()) if (test or data).human else None,
        images=images,
        known_images=known,
        best_epoch=int(state.best_epoch),
        epochs=epochs,
    )
    which = order[:held] if test is None else np.arange(len(test.items))
    examples = _examples(config, test or data, which, agreement)
    write(config, folder, trunk.name, layers, outcome, examples, human=(test or data).human)
    return outcome


def _data(config: Config, data: str, seed: int) -> Judgements:
    return judgements(
        data,
        "2afc",
        subset=config.subset,
        per_distortion=config.per_distortion,
        size=config.size,
        seed=seed,
    )


def _parts(
    config: Config,
    data: Judgements,
    test: Judgements | None,
    trunk: pj.Distance,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> dict[str, Any]:
    """The data, and what is scored in the end if that is something else, as the learner's own."""
    named = {"data": data} | ({} if test is None else {"test": test})
    if config.mode != "lin":
        return {name: Triplets.of(each, config.size) for name, each in named.items()}
    return {
        name: heads.features_of(config, each, trunk, folder.path / "features" / name, asked_to_stop)
        for name, each in named.items()
    }


# --- Scores --------------------------------------------------------------------------------


def _agreement(
    config: Config,
    learner: Learner,
    best: dict,
    part: Any,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> np.ndarray:
    """Of what training started from, and of what it ended with: [2, t]."""
    untrained, _ = learner.init(jax.random.key(config.seed))
    rows = []
    with progress("scoring", 2 * len(part.judge), unit="triplets") as advance:
        for variables in (untrained, best):
            found = []
            for some in learner.agreement(variables, part):
                found.append(some)
                advance(len(some))
                if asked_to_stop():
                    raise Interrupted(f"stopped; go on with: {folder.resume_command}")
            rows.append(np.concatenate(found))
    return np.stack(rows)


def _intervals(config: Config, agreement: np.ndarray) -> dict[str, Any]:
    drawn = bootstrap_means(agreement, seed=config.seed)
    untrained, trained = (interval(agreement[i].mean(), drawn[:, i]) for i in (0, 1))
    gain = interval(agreement[1].mean() - agreement[0].mean(), drawn[:, 1] - drawn[:, 0])
    return {"untrained": untrained, "trained": trained, "gain": gain}


def _images(
    data: Judgements, test: Judgements | None, *, learned_from: np.ndarray, held_out: np.ndarray
) -> tuple[int, int]:
    """How many images were scored, and how many of them were learned from."""

    def shown(judged: Judgements, which: Any) -> set[str]:
        return {judged.names[index] for index in np.unique(judged.items[which]).tolist()}

    if test is not None and not (test.human and data.human):
        # Those of a stand-in are drawn anew, whatever their names.
        return len(np.unique(test.items)), 0
    scored = shown(data, held_out) if test is None else shown(test, slice(None))
    return len(scored), len(scored & shown(data, learned_from))


_SHOWN = 4


def _examples(
    config: Config, judged: Judgements, which: np.ndarray, agreement: np.ndarray
) -> dict[str, list[tuple[np.ndarray, str]]]:
    """Rows of pictures: the triplets of which training gained most, the people's choice first."""
    gained = agreement[1] - agreement[0]
    rows = {}
    for place in np.argsort(-gained, kind="stable")[:_SHOWN].tolist():
        if gained[place] <= 0:
            break
        item, judge = judged.items[which[place]].tolist(), float(judged.judge[which[place]])
        reference, *both = (read_resized(judged, config.size, index) for index in item)
        order = (1, 0) if judge > 0.5 else (0, 1)
        said = (
            f"chosen by {share:.0%}" for share in (max(judge, 1 - judge), min(judge, 1 - judge))
        )
        captions = said if judged.human else ("distorted less", "distorted more")
        rows[f"triplet {which[place] + 1}"] = [
            (reference, "reference"),
            *((both[side], caption) for side, caption in zip(order, captions, strict=True)),
        ]
    return rows
