"""What networks are trained under: sums of distances, and the adversary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

import perceptual_jax as pj
from experiments.common import options
from experiments.common.progress import console
from perceptual_jax._sums import read_sum, sum_of
from perceptual_jax.errors import InputError

__all__ = ["ADVERSARY", "Sum", "parsed", "say_weights", "weighed"]

ADVERSARY = "adversary"
_ADVERSARY_WEIGHT = 0.005


class Sum(NamedTuple):
    """A sum of distances, as it was asked for.

    Attributes:
      name: as it was written.
      distances: its parts.
      weights: of each; None where it is to be measured.
      adversary: the weight of the adversary; 0 for none.
    """

    name: str
    distances: tuple[pj.Distance, ...]
    weights: tuple[float | None, ...]
    adversary: float


def parsed(specs: Sequence[str], size: int, flag: str = "--losses") -> list[Sum]:
    """The losses that are asked for.

    Args:
      specs: as in "l1 + 0.1 * lpips-alex + adversary", with spaces about every plus.
      size: of the square images that are compared.
      flag: the option, for errors.

    Raises:
      InputError: for what is no such sum, none at all, one that comes twice, or distances that
        cannot be used.
    """
    names = [" ".join(spec.split()) for spec in specs]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{flag} must name one or more, each once; got {', '.join(names)}")
    return [_parsed(name, size, flag) for name in names]


def _parsed(name: str, size: int, flag: str) -> Sum:
    specs, weights, adversary = [], [], 0.0
    try:
        parts = read_sum(name)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from None
    for weight, spec in parts:
        if spec == ADVERSARY:
            adversary = _ADVERSARY_WEIGHT if weight is None else weight
        else:
            specs.append(spec)
            weights.append(weight)
    if not specs:
        raise InputError(f"{flag}: {name!r} has no distance: write 'l1 + {name}', say")
    # The first sets the scale of what is measured.
    weights[0] = 1.0 if weights[0] is None else weights[0]
    return Sum(name, tuple(options.made(specs, size, flag)), tuple(weights), adversary)


def weighed(total: Sum, made: np.ndarray, wanted: np.ndarray, *, seed: int) -> pj.Distance:
    """The sum as a distance; a part whose weight was not given is as large as the first.

    Args:
      total: the sum.
      made: images as they are before training, [n, h, w, 3] in [0, 1].
      wanted: and as they should be.
      seed: of the distances' random draws.

    Raises:
      InputError: if a part is 0 there, so that no weight makes it large.
    """
    if len(total.distances) == 1 and total.weights == (1.0,):
        return total.distances[0]

    def value(distance: pj.Distance) -> float:
        params = distance.init(jax.random.key(seed))
        compared: Callable = jax.jit(distance.__call__)
        return float(compared(params, made, wanted).mean())

    first: float | None = None
    parts = {}
    for distance, weight in zip(total.distances, total.weights, strict=True):
        if weight is None:
            if first is None:
                first = total.weights[0] * value(total.distances[0])  # type: ignore[operator]
            own = value(distance)
            if not (np.isfinite(own) and own > 0 and first > 0):
                raise InputError(
                    f"{distance.name} is {own:g} before training, "
                    f"and {total.distances[0].name} {first:g}: give the weights of {total.name!r}"
                )
            # Two digits: no rounding of another machine changes it, and people can repeat it.
            weight = float(f"{first / own:.2g}")
        parts[distance.name] = (weight, distance)
    return sum_of(parts)


def say_weights(sums: Sequence[Sum], distances: Sequence[pj.Distance]) -> None:
    """Prints what weights were found where none were given."""
    for total, distance in zip(sums, distances, strict=True):
        if len(total.distances) > 1 and None in total.weights:
            console.print(f"{total.name}: trained under {distance.name}")
