"""Pyramids of a distance, by name: the combinators, for specs and the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perceptual_jax._typing import ValueRange
from perceptual_jax.combinators import MOST_LEVELS, on_gaussian_pyramid, on_laplacian_pyramid
from perceptual_jax.distance import Distance
from perceptual_jax.errors import InputError, choice, positive_integer

__all__ = ["LEVEL_WEIGHTS", "gaussian_pyramid", "lap1", "laplacian_pyramid"]

LEVEL_WEIGHTS: dict[str, Callable[[int, int], float]] = {
    "4^j": lambda j, levels: 4.0**j,
    "4^-j": lambda j, levels: 4.0**-j,
    "4^(L-j)": lambda j, levels: 4.0 ** (levels - j),
    "1": lambda j, levels: 1.0,
}
"""The weight of level j of 0 to L, finest first; the last is the low-pass rest."""


def laplacian_pyramid(
    *,
    levels: int = 3,
    distance: str = "l1",
    sigma: float = 2.0,
    kernel_size: int = 5,
    weights: str | Sequence[float] = "4^j",
    name: str = "laplacian-pyramid",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """sum_j w_j distance(level j) over the bands of a Laplacian pyramid and its low-pass rest.

    Args:
      levels: L, the number of bands; the rest makes one more.
      distance: a spec of the catalogue: what compares each level.
      sigma: standard deviation of the Gaussian, in pixels.
      kernel_size: its side, in pixels; odd.
      weights: a key of `LEVEL_WEIGHTS`, or L + 1 numbers, finest first.
      name: the canonical spec.
      value_range: (low, high) of float images, at least 2^L pixels a side.
      dtype: the dtype that each level is compared in; by default that of the images.

    Returns:
      A distance with a term for each level.

    Raises:
      InputError: for options out of range; at trace time for images too small.

    References:
      P. J. Burt, E. H. Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> same = jnp.zeros((1, 16, 16, 3))
      >>> sorted(pj.make("laplacian-pyramid", levels=2).terms({}, same, same))
      ['level0', 'level1', 'level2']
    """
    levels = positive_integer(f"{name}: levels", levels, MOST_LEVELS)
    return on_laplacian_pyramid(
        _inner(name, distance, value_range, dtype),
        levels,
        _weights(name, weights, levels, levels + 1),
        sigma=sigma,
        kernel_size=kernel_size,
        name=name,
        value_range=value_range,
    )


def lap1(
    *,
    levels: int = 3,
    sigma: float = 2.0,
    kernel_size: int = 5,
    name: str = "lap1",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """The Laplacian pyramid loss of GLO: sum_j 4^j l1(level j).

    Args:
      levels: as for `laplacian_pyramid`, and so are all others.
      sigma: standard deviation of the Gaussian, in pixels.
      kernel_size: its side, in pixels; odd.
      name: the canonical spec.
      value_range: (low, high) of float images, at least 2^levels pixels a side.
      dtype: the dtype that each level is compared in; by default that of the images.

    Returns:
      A distance with a term for each level.

    Raises:
      InputError: for options out of range; at trace time for images too small.

    References:
      P. Bojanowski, A. Joulin, D. Lopez-Paz, A. Szlam, "Optimizing the Latent Space of Generative
      Networks", ICML 2018, https://arxiv.org/abs/1707.05776

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> same = jnp.zeros((1, 16, 16, 3))
      >>> pj.make("lap1")({}, same, same).tolist()
      [0.0]
    """
    return laplacian_pyramid(
        levels=levels,
        sigma=sigma,
        kernel_size=kernel_size,
        name=name,
        value_range=value_range,
        dtype=dtype,
    )


def gaussian_pyramid(
    *,
    levels: int = 3,
    distance: str = "l1",
    weights: str | Sequence[float] = "1",
    name: str = "gaussian-pyramid",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """sum_j w_j distance(level j); each level is the 2x2 mean of the one before.

    Args:
      levels: how many; the first is the image itself.
      distance: a spec of the catalogue: what compares each level.
      weights: a key of `LEVEL_WEIGHTS`, or a number for each level, finest first.
      name: the canonical spec.
      value_range: (low, high) of float images, at least 2^(levels - 1) pixels a side.
      dtype: the dtype that each level is compared in; by default that of the images.

    Returns:
      A distance with a term for each level.

    Raises:
      InputError: for options out of range; at trace time for images too small.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> same = jnp.zeros((1, 16, 16, 3))
      >>> pj.make("gaussian-pyramid(distance='gradient')")({}, same, same).tolist()
      [0.0]
    """
    levels = positive_integer(f"{name}: levels", levels, MOST_LEVELS)
    return on_gaussian_pyramid(
        _inner(name, distance, value_range, dtype),
        levels,
        _weights(name, weights, levels - 1, levels),
        name=name,
        value_range=value_range,
    )


def _inner(name: str, spec: str, value_range: ValueRange, dtype: Any) -> Distance:
    # The catalogue lists what is in this file too.
    from perceptual_jax.catalogue import make

    if not isinstance(spec, str):
        raise InputError(f"{name}: distance must be a spec of the catalogue; got {spec!r}")
    return make(spec, value_range=tuple(value_range), dtype=dtype)


def _weights(name: str, weights: str | Sequence[float], last: int, count: int) -> Sequence[float]:
    if not isinstance(weights, str):
        return weights
    weigh = LEVEL_WEIGHTS[choice(f"{name}: weights", weights, LEVEL_WEIGHTS)]
    return [weigh(j, last) for j in range(count)]
