"""Learning the network as well: a step's images go through it whole.

A step's triplets are spread over the devices, each with the images of its own, which it embeds
once however many of its triplets have them; what devices tell each other is the sum of gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.mesh import replicate, shard_leading
from experiments.common.pairs import read_ahead
from experiments.common.triplets import Judgements, read_resized
from experiments.train_metric.config import Config
from experiments.train_metric.heads import squared_differences
from experiments.train_metric.method import Features, Learner, State, descent, loss, variables_of
from perceptual_jax._typing import Array, Params
from perceptual_jax.backbones import BACKBONES
from perceptual_jax.errors import InputError

__all__ = ["Triplets", "learner", "starting_params", "trained_sets"]

_MOST_KEPT = 2**30
"""How many bytes of resized images are kept in memory; the others are read again."""


class Triplets(NamedTuple):
    """Triplets of images, to be read when they are needed.

    Attributes:
      items: reference, first and second, [t, 3].
      judge: the fraction of people who chose the second, [t].
      read: `index -> uint8 [size, size, 3]`.
    """

    items: np.ndarray
    judge: np.ndarray
    read: Callable[[int], np.ndarray]

    @classmethod
    def of(cls, data: Judgements, size: int) -> Triplets:
        """All of the data's."""
        most = max(_MOST_KEPT // (3 * size * size), 1)
        read = lru_cache(maxsize=most)(partial(read_resized, data, size))
        return cls(data.items, data.judge.astype(np.float32), read)

    def at(self, which: np.ndarray) -> Triplets:
        """Some of the triplets."""
        return Triplets(self.items[which], self.judge[which], self.read)


class _Batch(NamedTuple):
    """What a step takes.

    Attributes:
      images: of all devices, [d * u, size, size, 3].
      places: of the triplets' images among those of their device, [d, k, 3].
      judge: [d, k].
    """

    images: Any
    places: Any
    judge: Any


# --- What is trained -----------------------------------------------------------------------


def trained_sets(trunk: pj.Distance, params: Params) -> tuple[str, ...]:
    """The weight sets that are networks: convolutions with kernels and biases.

    Raises:
      InputError: if there are none.
    """

    def is_network(layers: Any) -> bool:
        return isinstance(layers, Mapping) and all(
            isinstance(layer, Mapping) and layer.keys() == {"kernel", "bias"}
            for layer in layers.values()
        )

    found = tuple(name for name, layers in params.items() if is_network(layers))
    if not found:
        raise InputError(
            f"{trunk.name} has no network to train: take --mode lin, or the features of a network, "
            '"lpips-alex(heads=False)", "vgg16(metric=\'cosine\')"'
        )
    return found


def starting_params(config: Config, trunk: pj.Distance) -> Params:
    """The trunk's params: pretrained by "tune", and by "scratch" as `random_params` draws them.

    Raises:
      InputError: if there is no network among them.
    """
    key = jax.random.key(config.seed)
    params = dict(trunk.init(key))
    for place, name in enumerate(trained_sets(trunk, params)):
        if config.mode == "scratch" and name in BACKBONES:
            params[name] = BACKBONES[name].random_params(jax.random.fold_in(key, place))
    return params


def learner(
    config: Config, trunk: pj.Distance, params: Params, *, images: int, steps: int
) -> Learner:
    """What learns heads and the network that they weigh, on `Triplets`.

    Args:
      config: the options.
      trunk: the distance.
      params: what its training starts from.
      images: how many the data have.
      steps: of an epoch.
    """
    weighed = squared_differences(trunk)
    sets = trained_sets(trunk, params)
    devices = math.gcd(config.batch, jax.device_count())
    most = min(3 * config.batch // devices, images)
    begin, update = descent(config, steps)
    image = jax.ShapeDtypeStruct((1, config.size, config.size, 3), np.float32)
    embedded = jax.eval_shape(weighed.embed, params, image)
    channels = sum(leaf.shape[-1] for leaf in embedded.values())
    fixed = replicate({name: params[name] for name in params if name not in sets}, devices)

    def init(key: Array) -> tuple[dict, Any]:
        own = {"trunk": {name: params[name] for name in sets}}
        variables = replicate(variables_of(channels, key) | own, devices)
        return variables, replicate(begin(variables), devices)

    def features(trained: Params, fixed: Params, batch: _Batch) -> Features:
        maps = weighed.embed({**fixed, **trained}, batch.images)
        apart = jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), maps)

        def on_a_device(maps: dict[str, Array], places: Array) -> tuple[Array, Array]:
            reference, *both = (
                {layer: leaf[places[:, column]] for layer, leaf in maps.items()}
                for column in range(3)
            )
            first, second = (weighed.compare({}, reference, other) for other in both)
            return first, second

        both = jax.vmap(on_a_device)(apart, batch.places)
        first, second = (each.reshape(-1, channels) for each in both)
        return Features(first, second, batch.judge.reshape(-1))

    def loss_of(variables: dict, fixed: Params, batch: _Batch, key: Array) -> Array:
        return loss(variables, features(variables["trunk"], fixed, batch), config.dropout, key)

    @jax.jit
    def step(moving: tuple, fixed: Params, batch: _Batch, key: Array) -> tuple:
        variables, optimiser, total = moving
        if config.mirror:
            mirrored = jax.random.bernoulli(jax.random.fold_in(key, 1))
            turned = jnp.where(mirrored, batch.images[:, :, ::-1], batch.images)
            batch = batch._replace(images=turned)
        value, gradient = jax.value_and_grad(loss_of)(variables, fixed, batch, key)
        variables, optimiser = update(variables, optimiser, gradient)
        return variables, optimiser, total + value

    def batches(part: Triplets, order: list[np.ndarray]) -> Generator[_Batch]:
        with closing(read_ahead(part.read, [part.items[which] for which in order])) as coming:
            for which, pictures in zip(order, coming, strict=True):
                batch = _batch(part.at(which), pictures, devices, most)
                yield shard_leading(batch, devices)

    def epoch(state: State, part: Triplets, key: Array, first: int) -> Generator[tuple[State, int]]:
        order = np.asarray(jax.random.permutation(key, len(part.judge)))[: steps * config.batch]
        todo = list(order.reshape(steps, config.batch)[first:])
        with closing(batches(part, todo)) as coming:
            for number, batch in enumerate(coming, start=first):
                moving = (state.variables, state.optimiser, state.loss)
                moving = step(moving, fixed, batch, jax.random.fold_in(key, number))
                variables, optimiser, total = moving
                state = state._replace(variables=variables, optimiser=optimiser, loss=total)
                yield state, 1

    features_of = jax.jit(features)

    def agreement(variables: dict, part: Triplets) -> Iterator[np.ndarray]:
        heads = np.asarray(variables["heads"])
        every = np.arange(len(part.judge))
        order = [every[start : start + config.batch] for start in every[:: config.batch]]
        filled = [np.pad(which, (0, config.batch - len(which)), mode="edge") for which in order]
        with closing(batches(part, filled)) as coming:
            for which, batch in zip(order, coming, strict=True):
                found = jax.tree.map(np.asarray, features_of(variables["trunk"], fixed, batch))
                yield found.at(np.arange(len(which))).agreement(heads)

    return Learner(init, epoch, agreement)


def _batch(part: Triplets, pictures: dict[int, np.ndarray], devices: int, most: int) -> _Batch:
    """Of so many devices, each with `most` images: its own, and the last one again."""
    images, places = [], []
    for share in part.items.reshape(devices, -1, 3):
        own, place = np.unique(share, return_inverse=True)
        images.append(np.pad(own, (0, most - own.size), mode="edge"))
        places.append(place.reshape(-1, 3))
    stacked = np.stack([pictures[index] for index in np.concatenate(images).tolist()])
    return _Batch(stacked, np.stack(places).astype(np.int32), part.judge.reshape(devices, -1))
