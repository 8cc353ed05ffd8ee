"""Networks that map noise to codes, so that what they make of it lies as the codes do.

Implicit maximum likelihood estimation draws many samples and pulls the one nearest to each code to
it: no code is left without samples near it. Of few codes of many numbers it draws many near their
mean, which is nearer to each of them than they are to each other: of 300 codes of 64 numbers, half
of the draws are at .56 of the codes' distance from the mean, or nearer.

A generative moment matching network lowers the squared maximum mean discrepancy of samples and
codes.

Either is fitted to codes less their mean, and scaled to deviate by 1. Nothing is saved on the way:
the same codes and seed give the same network.

References:
  K. Li, J. Malik, "Implicit Maximum Likelihood Estimation", 2018, https://arxiv.org/abs/1809.09087
  Y. Hoshen, K. Li, J. Malik, "Non-Adversarial Image Synthesis with Generative Latent Nearest
  Neighbors", CVPR 2019, https://arxiv.org/abs/1812.08985 (of codes that GLO learned)
  Y. Li, K. Swersky, R. Zemel, "Generative Moment Matching Networks", ICML 2015,
  https://arxiv.org/abs/1502.02761
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.common.mesh import replicate, shard_leading
from experiments.common.progress import Advance
from perceptual_jax._typing import Array, Float, Key, Params
from perceptual_jax.ops.kernel_means import KERNELS

__all__ = ["NOISE", "Mapped", "Mapper", "discrepancy", "fit_gmmn", "fit_imle", "nearest_noise"]

NOISE = 64
"""How many normal numbers a code is made of."""

_HIDDEN = (128, 128)
_BATCH, _CHUNK = 128, 50
_LEARNING_RATE = 0.01
_HIGHEST = jax.lax.Precision.HIGHEST


class Mapper(nn.Module):
    """Noise to codes: two layers of 128 with a ReLU, and a linear one."""

    code: int

    @nn.compact
    def __call__(self, noise: Float[Array, "n k"]) -> Array:
        """[n, NOISE] to [n, code]."""
        for width in _HIDDEN:
            noise = nn.relu(nn.Dense(width, precision=_HIGHEST)(noise))
        return nn.Dense(self.code, precision=_HIGHEST)(noise)


Mapped: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""`noise [n, NOISE] -> codes [n, c]`."""


class _Training(NamedTuple):
    """Where fitting is."""

    params: Any
    optimiser: Any


def _descent(mapper: Mapper, steps: int) -> tuple[Callable, Callable]:
    """`init(key) -> training` and `descend(loss of params, training) -> training`, by Adam."""
    adam = optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, steps))

    def init(key: Key) -> _Training:
        params = mapper.init(key, jnp.zeros((1, NOISE)))
        return _Training(params, adam.init(params))

    def descend(loss: Callable[[Any], Array], training: _Training) -> _Training:
        updates, optimiser = adam.update(jax.grad(loss)(training.params), training.optimiser)
        return _Training(optax.apply_updates(training.params, updates), optimiser)

    return init, descend


def _mapped(mapper: Mapper, training: _Training, codes: np.ndarray) -> Mapped:
    """By what was fitted to standardised codes, on the host."""
    params, (mean, deviation) = jax.device_get(training.params), _moments(codes)
    apply = jax.jit(mapper.apply)

    def mapped(noise: np.ndarray) -> np.ndarray:
        made = np.asarray(apply(params, noise.astype(np.float32)))
        return (mean + deviation * made).astype(codes.dtype)

    return mapped


def _moments(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes' mean, and the deviation of all their numbers: one, which keeps near what is."""
    mean = codes.mean(axis=0, keepdims=True)
    return mean, np.maximum(np.sqrt(np.square(codes - mean).mean()), 1e-12)


def _standardised(codes: np.ndarray) -> np.ndarray:
    mean, deviation = _moments(codes)
    return ((codes - mean) / deviation).astype(np.float32)


# --- Implicit maximum likelihood -----------------------------------------------------------

_BLOCK_NUMBERS = 2**24
"""Distances to hold at a time, 64 MiB."""

_STEPS_PER_DRAW = 4
"""At least. 2,000 steps to 300 codes of two modes leave a discrepancy to others of .11 with new
draws every 4 steps, of .15 every 10, and of .13 to .17 with ten times as many draws as codes: those
that are nearest to no code are not moved."""


def nearest_noise(
    use: Callable[[Params, Array], Array],
    params: Params,
    codes: Float[Array, "n c"],
    key: Key,
    count: int,
    *,
    block: int | None = None,
) -> Float[Array, "n k"]:
    """Of many draws of noise, for each code the one that is mapped nearest to it.

    Draws are made, compared and forgotten a block at a time: what is held grows with the codes
    alone.

    Args:
      use: `(params, noise [m, NOISE]) -> [m, c]`; the same function means the same program.
      params: its params.
      codes: [n, c]; they may be spread over devices by rows.
      key: of the draws.
      count: how many to draw at least; whole blocks are.
      block: how many at a time; by default as many as keep the distances within 64 MiB.

    Returns:
      Noise, [n, NOISE].
    """
    block = min(count, block or max(1, _BLOCK_NUMBERS // len(codes)))
    # Made of the codes, to lie on the devices that these lie on.
    best = jnp.full_like(codes[:, 0], jnp.inf)
    found = jnp.broadcast_to(0 * codes[:, :1], (len(codes), NOISE))
    for number in range(-(-count // block)):
        own_key = jax.random.fold_in(key, number)
        best, found = _nearer(use, block, params, codes, own_key, best, found)
    return found


@partial(jax.jit, static_argnums=(0, 1))
def _nearer(
    use: Callable, block: int, params: Params, codes: Array, key: Key, best: Array, found: Array
) -> tuple[Array, Array]:
    """How near the nearest are and which noise they are of, with another block of draws."""
    noise = jax.random.normal(key, (block, NOISE), codes.dtype)
    made = use(params, noise)
    products = jnp.matmul(codes, made.T, precision=_HIGHEST)
    # Less the codes' own squares, which change no order.
    apart = jnp.square(made).sum(axis=1)[None] - 2 * products
    nearest = apart.min(axis=1)
    closer = nearest < best
    found = jnp.where(closer[:, None], noise[apart.argmin(axis=1)], found)
    return jnp.minimum(nearest, best), found


def fit_imle(codes: np.ndarray, steps: int, seed: int, advance: Advance) -> Mapped:
    """Fits a mapper by pulling to each code the nearest of as many samples as there are codes.

    Samples are drawn anew every 4 steps, or after as many as there are batches in the codes.

    Args:
      codes: [n, c], at least two.
      steps: of Adam, how many; its rate falls along half a cosine.
      seed: of the draws.
      advance: is told of the steps.

    Returns:
      `noise [n, NOISE] -> codes [n, c]`.
    """
    count, mapper = len(codes), Mapper(codes.shape[1])
    init, descend = _descent(mapper, steps)
    rows = np.arange(count + -count % jax.device_count()) % count
    points = shard_leading(jnp.asarray(_standardised(codes)[rows]), len(rows))

    @partial(jax.jit, static_argnums=0)
    def pull(steps: int, training: _Training, points: Array, noise: Array, key: Key) -> _Training:
        def step(training: _Training, key: Key) -> tuple[_Training, None]:
            batch = jax.random.randint(key, (min(_BATCH, count),), 0, count)

            def loss(params: Any) -> Array:
                made = mapper.apply(params, noise[batch])
                return jnp.square(made - points[batch]).sum(axis=1).mean()

            return descend(loss, training), None

        return jax.lax.scan(step, training, jax.random.split(key, steps))[0]

    key = jax.random.key(seed)
    training = replicate(init(jax.random.fold_in(key, 0)), len(rows))
    a_draw, done = max(_STEPS_PER_DRAW, count // _BATCH), 0
    while done < steps:
        own_key, length = jax.random.fold_in(key, 1 + done), min(a_draw, steps - done)
        noise = nearest_noise(mapper.apply, training.params, points, own_key, count)
        training = pull(length, training, points, noise, jax.random.fold_in(own_key, 1))
        done += length
        advance(length)
    return _mapped(mapper, training, codes)


# --- Matched moments -----------------------------------------------------------------------

_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels that are added up, in median distances of two codes."""


def discrepancy(
    x: Float[Array, "n c"], y: Float[Array, "m c"], bandwidths: tuple[float, ...]
) -> Array:
    """The squared maximum mean discrepancy of two sets, with the mean of Gaussian kernels.

    mean_(i != j) k(x_i, x_j) + mean_(i != j) k(y_i, y_j) - 2 mean_ij k(x_i, y_j), which is 0 on
    average for sets of one distribution, where k(u, v) is the mean over bandwidths B of
    exp(-|u - v|^2 / (2 B^2)).

    Args:
      x: points, [n, c], at least two.
      y: others, [m, c], at least two.
      bandwidths: in the points' unit.

    Returns:
      A number.
    """

    def kernel(u: Array, v: Array) -> Array:
        products = jnp.matmul(u, v.T, precision=_HIGHEST)
        norms = jnp.square(u).sum(axis=1, keepdims=True), jnp.square(v).sum(axis=1)[None]
        return KERNELS["rbf"](bandwidths).values(products, *norms) / len(bandwidths)

    def within(u: Array) -> Array:
        # Of a point with itself the kernel is 1.
        return (kernel(u, u).sum() - len(u)) / (len(u) * (len(u) - 1))

    return within(x) + within(y) - 2 * kernel(x, y).mean()


def fit_gmmn(codes: np.ndarray, steps: int, seed: int, advance: Advance) -> Mapped:
    """Fits a mapper by lowering the discrepancy of batches of samples and codes.

    Args:
      codes: [n, c], at least two.
      steps: of Adam, how many; its rate falls along half a cosine.
      seed: of the draws.
      advance: is told of the steps.

    Returns:
      `noise [n, NOISE] -> codes [n, c]`.
    """
    mapper, points = Mapper(codes.shape[1]), _standardised(codes)
    init, descend = _descent(mapper, steps)
    median = _median_distance(points) or 1.0  # 0 where most codes are one.
    bandwidths = tuple(times * median for times in _BANDWIDTHS)

    @partial(jax.jit, static_argnums=0)
    def match(steps: int, training: _Training, points: Array, key: Key) -> _Training:
        def step(training: _Training, key: Key) -> tuple[_Training, None]:
            of_rows, of_noise = jax.random.split(key)
            batch = points[jax.random.randint(of_rows, (_BATCH,), 0, len(points))]
            noise = jax.random.normal(of_noise, (_BATCH, NOISE))

            def loss(params: Any) -> Array:
                return discrepancy(mapper.apply(params, noise), batch, bandwidths)

            return descend(loss, training), None

        return jax.lax.scan(step, training, jax.random.split(key, steps))[0]

    key = jax.random.key(seed)
    training, everywhere = replicate((init(jax.random.fold_in(key, 0)), jnp.asarray(points)))
    done = 0
    while done < steps:
        length = min(_CHUNK, steps - done)
        training = match(length, training, everywhere, jax.random.fold_in(key, 1 + done))
        done += length
        advance(length)
    return _mapped(mapper, training, codes)


_MOST = 1024
"""Codes whose distances tell the median."""


def _median_distance(points: np.ndarray) -> float:
    some = points[:_MOST]
    products = some @ some.T
    norms = np.diagonal(products)
    apart = (norms[:, None] + norms[None] - 2 * products)[np.triu_indices(len(some), 1)]
    return float(np.sqrt(np.maximum(np.median(apart), 0)))
