"""How distances are learned from triplets, whatever it is that learns.

As in LPIPS, a small network turns the two distances of a triplet into the probability that people
choose the second image, and both are trained on what they chose; the network is then thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.common import checkpoint
from experiments.common.loop import Interrupted
from experiments.common.progress import progress
from experiments.common.run_folder import RunFolder
from experiments.train_metric.config import Config
from perceptual_jax._typing import Array
from perceptual_jax.errors import InputError
from perceptual_jax.statistics import two_afc_agreement

__all__ = ["Features", "Learner", "State", "descent", "loss", "train", "variables_of"]


class Features(NamedTuple):
    """Triplets as what is weighed: mean squared differences of features.

    Attributes:
      first: of the reference and the first image, [t, c], the channels of all layers.
      second: and the second.
      judge: the fraction of people who chose the second, [t].
    """

    first: Any
    second: Any
    judge: Any

    def at(self, which: np.ndarray) -> Features:
        """Some of the triplets."""
        return Features(self.first[which], self.second[which], self.judge[which])

    def agreement(self, heads: np.ndarray) -> np.ndarray:
        """Of the distance with these heads, triplet by triplet."""
        return two_afc_agreement(self.first @ heads, self.second @ heads, self.judge)


class State(NamedTuple):
    """Where training is.

    Attributes:
      variables: what is trained: "heads" [c], "ranking", and "trunk" where it learns too.
      optimiser: the optimiser's state.
      loss: the sum of the epoch's losses so far.
      best: the variables that scored best, without the ranking.
      best_score: what they scored.
      best_epoch: after which epoch; 0 is before the first.
    """

    variables: dict
    optimiser: Any
    loss: Array
    best: dict
    best_score: Array
    best_epoch: Array


class Learner(NamedTuple):
    """What learns, as pure functions of its variables.

    Attributes:
      init: `key -> (variables, optimiser's state)`.
      epoch: `(state, part, key, step) -> (state, steps taken)`, some steps at a time, from a step
        of the epoch on; what becomes of variables, optimiser and loss.
      agreement: `(variables, part) -> [t]`, some triplets at a time, in order.
    """

    init: Callable[[Array], tuple[dict, Any]]
    epoch: Callable[[State, Any, Array, int], Generator[tuple[State, int]]]
    agreement: Callable[[dict, Any], Iterator[np.ndarray]]


# --- The loss, and its descent -------------------------------------------------------------


class Ranking(nn.Module):
    """The logit of how many people choose the second image, from two distances [n]."""

    @nn.compact
    def __call__(self, d0: Array, d1: Array) -> Array:
        x = jnp.stack([d0, d1, d0 - d1, d0 / (d1 + 0.1), d1 / (d0 + 0.1)], axis=-1)
        for _ in range(2):
            x = nn.leaky_relu(nn.Dense(32)(x), 0.2)
        return nn.Dense(1)(x)[:, 0]


def variables_of(channels: int, key: Array) -> dict:
    """Heads that are all alike, [channels], and a ranking network drawn from the key."""
    return {
        "heads": jnp.ones(channels),
        "ranking": Ranking().init(key, jnp.zeros(1), jnp.zeros(1)),
    }


def loss(variables: dict, batch: Features, dropout: float, key: Array) -> Array:
    """The cross entropy of what people chose, some channels left out; a mean over the batch."""
    kept = jax.random.bernoulli(key, 1 - dropout, variables["heads"].shape)
    heads = variables["heads"] * kept / (1 - dropout)
    d0, d1 = (jnp.matmul(each, heads, precision="highest") for each in (batch.first, batch.second))
    logits = Ranking().apply(variables["ranking"], d0, d1)
    return optax.sigmoid_binary_cross_entropy(logits, batch.judge).mean()


def descent(config: Config, steps: int) -> tuple[Callable, Callable]:
    """Adam, and heads of at least 0.

    Args:
      config: with the learning rates; they fall to 0 over the second half of the epochs.
      steps: of an epoch.

    Returns:
      `init(variables) -> state` and `update(variables, state, gradient) -> (variables, state)`.
    """
    half = steps * config.epochs // 2
    falling = max(steps * config.epochs - half, 1)
    schedule = optax.join_schedules(
        [
            optax.constant_schedule(config.learning_rate),
            optax.linear_schedule(config.learning_rate, 0, falling),
        ],
        [half],
    )
    adam = optax.adam(schedule, b1=0.5)
    slower = config.trunk_learning_rate / config.learning_rate

    def update(variables: dict, state: Any, gradient: dict) -> tuple[dict, Any]:
        updates, state = adam.update(gradient, state)
        if "trunk" in updates:
            # Adam's steps do not depend on the gradient's scale, but they do on their own.
            trunk = jax.tree.map(lambda change: slower * change, updates["trunk"])
            updates = updates | {"trunk": trunk}
        variables = optax.apply_updates(variables, updates)
        return variables | {"heads": jnp.maximum(variables["heads"], 0)}, state

    return adam.init, update


# --- Training ------------------------------------------------------------------------------


def train(
    config: Config,
    learner: Learner,
    learning: Any,
    scored: dict[str, Any],
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[State, list[dict[str, Any]]]:
    """Trains, from the last checkpoint if there is one; returns where it ended, and the epochs.

    Args:
      config: the options.
      learner: what learns.
      learning: the triplets that it learns from, with their `judge` [t].
      scored: those that are scored after every epoch: "held_out" says when to stop.
      folder: the run's.
      asked_to_stop: is asked between steps.

    Raises:
      InputError: if training leaves the finite numbers.
      Interrupted: when asked to stop, after saving.
    """
    steps = len(learning.judge) // config.batch
    key = jax.random.fold_in(jax.random.key(config.seed), 3)
    saved = folder.path / "checkpoints"
    done, state = checkpoint.restore_latest(saved, _first(learner, key))
    if not done:
        start = _score(learner, state.best, scored["held_out"])
        state = state._replace(best_score=jnp.asarray(start, jnp.float32))
    lines = [line for line in folder.metrics() if line.get("epoch", 0) * steps <= done]
    folder.keep_metrics(lines)
    with progress("training", config.epochs * steps, done=done) as advance:
        while done < config.epochs * steps:
            epoch, step = divmod(done, steps)
            if epoch - int(state.best_epoch) >= config.patience:
                break
            if step == 0:
                state = state._replace(loss=jnp.zeros_like(state.loss))
            epoch_key = jax.random.fold_in(key, epoch)
            with closing(learner.epoch(state, learning, epoch_key, step)) as taken:
                for state, count in taken:
                    done += count
                    advance(count)
                    ended, stopping = done % steps == 0, asked_to_stop()
                    if ended or stopping or done % config.save_every == 0:
                        _check_finite(state, epoch + 1)
                        if ended:
                            state, line = _after(learner, state, scored, epoch + 1, steps)
                            # The line first: one too many is dropped on resuming.
                            folder.log(**line)
                            lines.append(line)
                        checkpoint.save(saved, done, state)
                    if stopping:
                        raise Interrupted(
                            f"stopped in epoch {epoch + 1}; go on with: {folder.resume_command}"
                        )
    return state, lines


def _first(learner: Learner, key: Array) -> State:
    variables, optimiser = learner.init(key)
    best = {name: value for name, value in variables.items() if name != "ranking"}
    # Where the variables are: what a checkpoint is read into says where it goes.
    loss = jax.device_put(jnp.zeros(()), variables["heads"].sharding)
    return State(variables, optimiser, loss, best, jnp.zeros(()), jnp.zeros((), jnp.int32))


def _score(learner: Learner, variables: dict, part: Any) -> float:
    return float(np.concatenate(list(learner.agreement(variables, part))).mean())


def _after(
    learner: Learner, state: State, scored: dict[str, Any], epoch: int, steps: int
) -> tuple[State, dict[str, Any]]:
    """The state after an epoch, which may be the best so far, and the epoch's line."""
    best = {name: state.variables[name] for name in state.best}
    scores = {name: _score(learner, best, part) for name, part in scored.items()}
    line = {"epoch": epoch, "loss": float(state.loss) / steps, **scores}
    # Rounded as what it is compared with: else an equal score is more every other time.
    score = jnp.asarray(scores["held_out"], jnp.float32)
    if score > state.best_score:
        state = state._replace(
            best=best,
            best_score=score,
            best_epoch=jnp.asarray(epoch, jnp.int32),
        )
    return state, line


_all_finite = jax.jit(
    lambda tree: jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
)


def _check_finite(state: State, epoch: int) -> None:
    """Nothing is saved that training could not go on from."""
    if not _all_finite((state.variables, state.loss)):
        raise InputError(
            f"training left the finite numbers in epoch {epoch}: "
            "try a smaller --learning-rate or --trunk-learning-rate"
        )
