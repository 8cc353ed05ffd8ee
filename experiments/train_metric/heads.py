"""Learning the weights of channels alone: features are computed once, and a step is a product."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.pairs import distances_of_pairs
from experiments.common.triplets import Judgements, pairs_of, read_resized
from experiments.train_metric.config import Config
from experiments.train_metric.method import Features, Learner, State, descent, loss, variables_of
from perceptual_jax._typing import Array, Embedding, ImageLike, Params
from perceptual_jax.distances.learned import feature_maps

__all__ = ["channels_of", "features_of", "learner", "squared_differences"]


def learner(config: Config, channels: int, steps: int) -> Learner:
    """What learns heads on `Features`.

    Args:
      config: the options.
      channels: of all layers.
      steps: of an epoch.
    """
    begin, update = descent(config, steps)

    def init(key: Array) -> tuple[dict, Any]:
        variables = variables_of(channels, key)
        return variables, begin(variables)

    @jax.jit
    def whole_epoch(state: State, features: Features, key: Array) -> State:
        order = jax.random.permutation(key, len(features.judge))[: steps * config.batch]

        def step(carry: tuple, which: Array) -> tuple:
            variables, optimiser, total, number = carry
            batch = jax.tree.map(lambda leaf: leaf[which], features)
            value, gradient = jax.value_and_grad(loss)(
                variables, batch, config.dropout, jax.random.fold_in(key, number)
            )
            variables, optimiser = update(variables, optimiser, gradient)
            return (variables, optimiser, total + value, number + 1), None

        carry = (state.variables, state.optimiser, state.loss, 0)
        (variables, optimiser, total, _), _ = jax.lax.scan(
            step, carry, order.reshape(steps, config.batch)
        )
        return state._replace(variables=variables, optimiser=optimiser, loss=total)

    def epoch(state: State, part: Features, key: Array, first: int) -> Generator[tuple[State, int]]:
        del first  # An epoch is one program, and is never stopped half way.
        yield whole_epoch(state, part, key), steps

    def agreement(variables: dict, part: Features) -> Iterator[np.ndarray]:
        yield part.agreement(np.asarray(variables["heads"]))

    return Learner(init, epoch, agreement)


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


def features_of(
    config: Config,
    data: Judgements,
    trunk: pj.Distance,
    kept: Path,
    asked_to_stop: Callable[[], bool],
) -> Features:
    """All triplets of the data as `Features`, from where an earlier call was stopped.

    Raises:
      Stopped: when asked to; what is done is kept.
    """
    found = distances_of_pairs(
        [squared_differences(trunk)],
        pairs_of(data.items),
        partial(read_resized, data, config.size),
        kept,
        seed=config.seed,
        images_at_once=config.images_at_once,
        pairs_at_once=64,
        asked_to_stop=asked_to_stop,
        numbers=(sum(channels_of(trunk, config.size).values()),),
    )
    first, second = np.moveaxis(found[0].reshape(len(data.items), 2, -1), 1, 0)
    return Features(first, second, data.judge.astype(np.float32))
