"""A distance learned from what people said: heads on the features of another distance.

Every channel of the features gets a weight of at least 0, so that the distance chooses as people
do. As in LPIPS, a small network turns the two distances of a triplet into the probability that
people choose the second image, and both are trained on what they chose; the network is then
thrown away.

    perceptual-jax train-metric --data train.csv --test test.csv
    perceptual-jax compare a.png b.png --distances runs/train-metric/NAME/metric.safetensors

References:
  R. Zhang, P. Isola, A. Efros, E. Shechtman, O. Wang, "The Unreasonable Effectiveness of Deep
  Features as a Perceptual Metric", CVPR 2018, https://arxiv.org/abs/1801.03924
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.common import checkpoint
from experiments.common.loop import Interrupted, interruptible
from experiments.common.pairs import Stopped, distances_of_pairs
from experiments.common.progress import console, progress
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, resumed, start
from experiments.common.triplets import Judgements, judgements, pairs_of, read_resized
from perceptual_jax._typing import Array, Embedding, ImageLike, Params
from perceptual_jax.distances.learned import Learned, feature_maps, write_learned
from perceptual_jax.errors import InputError
from perceptual_jax.statistics import (
    Interval,
    bootstrap_means,
    human_ceiling,
    interval,
    two_afc_agreement,
)

__all__ = ["PRESETS", "Config", "Outcome", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax train-metric`."""

    data: str = "embedded"
    """What to learn from: "embedded" (a stand-in: no person judged it), a CSV manifest, a folder
    of BAPPS or "tfds:bapps/train"."""
    test: str | None = None
    """Of the same kinds: what to score in the end; by default the part held out."""
    trunk: str = "lpips-alex(heads=False)"
    """The distance whose features are weighed, one that embeds images as maps of features."""
    size: int = 64
    """Every image is resized to this side, in pixels, by Pillow's bicubic filter."""
    subset: str = "train"
    """Of BAPPS: "train" or "val"."""
    per_distortion: int = 200
    """Of the stand-in: how many triplets of each of its six distortions."""
    held_out: float = 0.1
    """The fraction of the triplets that is not learned from, but says when to stop."""
    epochs: int = 30
    """How often every triplet is seen, at most."""
    patience: int = 5
    """Stop when the score on what is held out has not risen for so many epochs."""
    batch: int = 50
    """How many triplets a step takes."""
    learning_rate: float = 1e-3
    """Of Adam; it falls to 0 over the second half of the epochs."""
    dropout: float = 0.5
    """The fraction of channels that a step leaves out."""
    images_at_once: int = 128
    """How many images a device embeds at once."""
    seed: int = 0
    """Of all random draws."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {"default": Config()}


class Features(NamedTuple):
    """Triplets as what is weighed: mean squared differences of features.

    Attributes:
      first: of the reference and the first image, [t, c], the channels of all layers.
      second: and the second.
      judge: the fraction of people who chose the second, [t].
    """

    first: np.ndarray
    second: np.ndarray
    judge: np.ndarray

    def at(self, which: np.ndarray) -> Features:
        """Some of the triplets."""
        return Features(self.first[which], self.second[which], self.judge[which])

    def agreement(self, heads: np.ndarray) -> np.ndarray:
        """Of the distance with these heads, triplet by triplet."""
        return two_afc_agreement(self.first @ heads, self.second @ heads, self.judge)


class Outcome(NamedTuple):
    """What training did.

    Attributes:
      heads: the weights of all layers' channels, [c].
      untrained: the score of weights that are all alike, with its interval.
      trained: the learned weights' score.
      gain: the difference, of the same triplets.
      ceiling: what people score; None where nobody was asked.
      epochs: of training, with the scores on what is held out.
    """

    heads: np.ndarray
    untrained: Interval
    trained: Interval
    gain: Interval
    ceiling: float | None
    epochs: list[dict[str, Any]]


# --- The method ----------------------------------------------------------------------------


class Ranking(nn.Module):
    """The logit of how many people choose the second image, from two distances [n]."""

    @nn.compact
    def __call__(self, d0: Array, d1: Array) -> Array:
        x = jnp.stack([d0, d1, d0 - d1, d0 / (d1 + 0.1), d1 / (d0 + 0.1)], axis=-1)
        for _ in range(2):
            x = nn.leaky_relu(nn.Dense(32)(x), 0.2)
        return nn.Dense(1)(x)[:, 0]


class State(NamedTuple):
    """Where training is: its variables, the optimiser's state, and the best heads so far."""

    variables: dict
    optimiser: Any
    best: Array
    best_score: Array
    best_epoch: Array


def _optimiser(config: Config, steps: int) -> optax.GradientTransformation:
    half = steps * config.epochs // 2
    schedule = optax.join_schedules(
        [
            optax.constant_schedule(config.learning_rate),
            optax.linear_schedule(config.learning_rate, 0, max(steps * config.epochs - half, 1)),
        ],
        [half],
    )
    return optax.adam(schedule, b1=0.5)


def epoch_of(config: Config, steps: int) -> tuple[Callable, Callable]:
    """Training as `init(channels, key) -> State` and `epoch(state, features, key) -> State`."""
    ranking, optimiser = Ranking(), _optimiser(config, steps)

    def init(channels: int, key: Array) -> State:
        variables = {
            "heads": jnp.ones(channels),
            "ranking": ranking.init(key, jnp.zeros(1), jnp.zeros(1)),
        }
        zero = jnp.zeros((), jnp.int32)
        return State(variables, optimiser.init(variables), variables["heads"], jnp.zeros(()), zero)

    def loss(variables: dict, batch: Features, key: Array) -> Array:
        kept = jax.random.bernoulli(key, 1 - config.dropout, variables["heads"].shape)
        heads = variables["heads"] * kept / (1 - config.dropout)
        d0, d1 = (
            jnp.matmul(each, heads, precision="highest") for each in (batch.first, batch.second)
        )
        logits = ranking.apply(variables["ranking"], d0, d1)
        return optax.sigmoid_binary_cross_entropy(logits, batch.judge).mean()

    @jax.jit
    def epoch(state: State, features: Features, key: Array) -> State:
        order = jax.random.permutation(key, len(features.judge))[: steps * config.batch]

        def step(carry: tuple, which: Array) -> tuple:
            variables, optimiser_state, number = carry
            batch = jax.tree.map(lambda leaf: leaf[which], features)
            gradient = jax.grad(loss)(variables, batch, jax.random.fold_in(key, number))
            updates, optimiser_state = optimiser.update(gradient, optimiser_state)
            variables = optax.apply_updates(variables, updates)
            variables["heads"] = jnp.maximum(variables["heads"], 0)
            return (variables, optimiser_state, number + 1), None

        carry = (state.variables, state.optimiser, 0)
        (variables, optimiser_state, _), _ = jax.lax.scan(
            step, carry, order.reshape(steps, config.batch)
        )
        return state._replace(variables=variables, optimiser=optimiser_state)

    return init, epoch


def train(
    config: Config,
    learning: Features,
    held_out: Features,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Trains heads, from the last checkpoint if there is one; returns the best, and the epochs.

    Raises:
      Interrupted: when asked to stop, after saving.
    """
    steps = len(learning.judge) // config.batch
    key = jax.random.fold_in(jax.random.key(config.seed), 3)
    init, epoch = epoch_of(config, steps)
    state = init(learning.first.shape[1], key)
    state = state._replace(best_score=jnp.asarray(_score(held_out, state.best), jnp.float32))
    saved = folder.path / "checkpoints"
    done = checkpoint.latest_step(saved) or 0
    if done:
        state = checkpoint.restore(saved, done, state)
    lines = [line for line in folder.metrics() if line["epoch"] <= done]
    folder.keep_metrics(lines)
    on_device = jax.device_put(learning)
    with progress("training", config.epochs, unit="epochs", done=done) as advance:
        while done < config.epochs and done - int(state.best_epoch) < config.patience:
            state = epoch(state, on_device, jax.random.fold_in(key, done))
            done += 1
            score = _score(held_out, state.variables["heads"])
            if score > float(state.best_score):
                state = state._replace(
                    # A copy: what is trained on is given up.
                    best=jnp.array(state.variables["heads"]),
                    best_score=jnp.asarray(score, jnp.float32),
                    best_epoch=jnp.asarray(done, jnp.int32),
                )
            line = {
                "epoch": done,
                "held_out": score,
                "learned_from": _score(learning, state.variables["heads"]),
            }
            folder.log(**line)
            lines.append(line)
            checkpoint.save(saved, done, state)
            advance()
            if asked_to_stop():
                raise Interrupted(
                    f"stopped after epoch {done}; go on with: {folder.resume_command}"
                )
    return np.asarray(state.best), lines


def _score(features: Features, heads: Any) -> float:
    return float(features.agreement(np.asarray(heads)).mean())


# --- Features ------------------------------------------------------------------------------


def squared_differences(trunk: pj.Distance) -> pj.Distance:
    """In the form of a distance, what the heads weigh: [n, c], all layers' channels in a row."""

    def embed(params: Params, images: ImageLike) -> Embedding:
        return feature_maps(trunk, params, images)

    def compare(params: Params, ex: Embedding, ey: Embedding) -> Array:
        del params
        means = [jnp.square(ex[layer] - ey[layer]).mean(axis=(1, 2)) for layer in ex]
        return jnp.concatenate(means, axis=-1)

    return pj.Distance(trunk.name, trunk.init, embed, compare)


def channels_of(trunk: pj.Distance, size: int) -> dict[str, int]:
    """`{layer: channels}` of a trunk.

    Raises:
      InputError: if it does not embed images as maps of features.
    """
    params = jax.eval_shape(trunk.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    found = jax.eval_shape(partial(feature_maps, trunk), params, image)
    return {layer: leaf.shape[-1] for layer, leaf in found.items()}


def _features(
    config: Config,
    data: Judgements,
    trunk: pj.Distance,
    folder: RunFolder,
    kept: str,
    asked_to_stop: Callable[[], bool],
) -> Features:
    try:
        found = distances_of_pairs(
            [squared_differences(trunk)],
            pairs_of(data.items),
            partial(read_resized, data, config.size),
            folder.path / kept,
            seed=config.seed,
            images_at_once=config.images_at_once,
            pairs_at_once=64,
            asked_to_stop=asked_to_stop,
            numbers=(sum(channels_of(trunk, config.size).values()),),
        )
    except Stopped:
        raise Interrupted(f"stopped; go on with: {folder.resume_command}") from None
    first, second = np.moveaxis(found[0].reshape(len(data.items), 2, -1), 1, 0)
    return Features(first, second, data.judge.astype(np.float32))


# --- The run -------------------------------------------------------------------------------


def run(config: Config) -> Outcome:
    """Learns heads, scores them, and writes the run's folder with `metric.safetensors`.

    Raises:
      InputError: for data or options that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("train-metric", config)
    trunk = pj.make(config.trunk)
    layers = channels_of(trunk, config.size)
    data = _data(config, config.data, config.seed)
    test = None if config.test is None else _data(config, config.test, config.seed + 1)
    order = np.random.default_rng(config.seed).permutation(len(data.items))
    held = round(len(order) * config.held_out)
    _check(config, learning=len(order) - held, held=held)
    folder = start("train-metric", config, distances=[trunk])
    with interruptible() as asked_to_stop:
        features = _features(config, data, trunk, folder, "features", asked_to_stop)
        held_out = features.at(order[:held])
        heads, epochs = train(config, features.at(order[held:]), held_out, folder, asked_to_stop)
        scored = held_out
        if test is not None:
            scored = _features(config, test, trunk, folder, "test-features", asked_to_stop)
    human = data.human if test is None else test.human
    outcome = _outcome(config, heads, scored, epochs, human=human)
    _write(config, folder, layers, outcome, human=human)
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


def _check(config: Config, *, learning: int, held: int) -> None:
    for field, least in {"epochs": 1, "patience": 1, "batch": 1, "images_at_once": 3}.items():
        if getattr(config, field) < least:
            flag = f"--{field.replace('_', '-')}"
            raise InputError(f"{flag} must be at least {least}; got {getattr(config, field)}")
    if not 0 <= config.dropout < 1:
        raise InputError(f"--dropout must be at least 0 and less than 1; got {config.dropout}")
    if not config.learning_rate > 0:
        raise InputError(f"--learning-rate must be more than 0; got {config.learning_rate}")
    if held < 1 or learning < config.batch:
        raise InputError(
            f"{learning} triplets to learn from and {held} held out are too few for batches of "
            f"{config.batch}: give more data, or change --held-out or --batch"
        )


def _outcome(
    config: Config, heads: np.ndarray, scored: Features, epochs: list, *, human: bool
) -> Outcome:
    agreement = np.stack([scored.agreement(np.ones_like(heads)), scored.agreement(heads)])
    drawn = bootstrap_means(agreement, seed=config.seed)
    untrained, trained = (interval(agreement[i].mean(), drawn[:, i]) for i in (0, 1))
    gain = interval(agreement[1].mean() - agreement[0].mean(), drawn[:, 1] - drawn[:, 0])
    ceiling = float(human_ceiling(scored.judge).mean()) if human else None
    return Outcome(heads, untrained, trained, gain, ceiling, epochs)


def _write(
    config: Config, folder: RunFolder, layers: dict[str, int], outcome: Outcome, *, human: bool
) -> None:
    ends = np.cumsum([0, *layers.values()])
    heads = {
        layer: outcome.heads[start:stop]
        for layer, start, stop in zip(layers, ends[:-1], ends[1:], strict=True)
    }
    scores = {
        name: {key: float(value) for key, value in getattr(outcome, name)._asdict().items()}
        for name in ("untrained", "trained", "gain")
    }
    about = {"data": config.data, "seed": str(config.seed), "human": str(human)}
    file = folder.path / "metric.safetensors"
    write_learned(file, Learned(config.trunk, heads, about=about))
    folder.write_json("results.json", {**scores, "people": outcome.ceiling, "human": human})
    report = Report(
        "A distance learned from what people said",
        f"Weights of the channels of {config.trunk}, at least 0, trained to choose between two "
        "images as people do. The score is the fraction of people who agree; intervals hold 95% "
        "of the scores on data sets drawn from the same triplets with replacement.",
    )
    if not human:
        report.text(
            "This is not human data: the triplets are drawn, and the right answer is known by how "
            "they were made."
        )
    rows = [
        [name, *(f"{value:.4f}" for value in getattr(outcome, name))]
        for name in ("untrained", "trained", "gain")
    ]
    if outcome.ceiling is not None:
        rows.append(["people", f"{outcome.ceiling:.4f}", "", ""])
    report.table(["", "score", "low", "high"], rows)
    report.figure(curves(outcome), "Scores against epochs")
    report.figure(weights_drawn(heads), "The learned weights of each layer, sorted")
    report.heading("How to use it")
    report.code(f'distance = pj.make("{file}")')
    report.heading("How it was made")
    report.code("\n".join(f"{key} = {value}" for key, value in dataclasses.asdict(config).items()))
    report.write(folder.path / "report.html")
    console.print(
        f"untrained {outcome.untrained.mean:.4f}, trained {outcome.trained.mean:.4f} "
        f"({outcome.trained.low:.4f} to {outcome.trained.high:.4f}), gain {outcome.gain.mean:+.4f} "
        f"({outcome.gain.low:+.4f} to {outcome.gain.high:+.4f})"
    )
    console.print(f"distance: {file}")
    console.print(f"report: {folder.path / 'report.html'}")


def curves(outcome: Outcome) -> Figure:
    """Scores on what is learned from and on what is held out."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    epochs = [line["epoch"] for line in outcome.epochs]
    for name, label in (("learned_from", "learned from"), ("held_out", "held out")):
        axes.plot(epochs, [line[name] for line in outcome.epochs], label=label)
    axes.set(xlabel="epoch", ylabel="agreement")
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def weights_drawn(heads: dict[str, np.ndarray]) -> Figure:
    """Every layer's weights, from the largest to the smallest."""
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    for axes, (layer, head) in zip(
        np.atleast_1d(figure.subplots(1, len(heads), sharey=True)), heads.items(), strict=True
    ):
        axes.plot(np.sort(head)[::-1])
        axes.set_title(layer, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
