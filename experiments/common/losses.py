"""What networks are trained under: sums of distances, and the adversary."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

import perceptual_jax as pj
from experiments.common import options
from experiments.common.progress import console
from perceptual_jax.distances.learned import ENDING
from perceptual_jax.errors import InputError

__all__ = ["ADVERSARY", "Sum", "parsed", "say_weights", "weighed"]

ADVERSARY = "adversary"
_ADVERSARY_WEIGHT = 0.005
_WEIGHTED = re.compile(r"([0-9][0-9.eE-]*)\s*\*\s*(.+)")
_WITHOUT_SIGN = re.compile(r"([0-9][0-9.eE-]*) ?([a-z][^*]*)")
_SUBTRACTED = re.compile(r"(?:^| )- ?[0-9][0-9.eE-]*(?: ?\*| [a-z])|\S - [a-z]")


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
    for part in name.split(" + "):
        _check_signs(part, name, flag)
        weighted = _WEIGHTED.fullmatch(part)
        weight, spec = (_number(weighted[1], name, flag), weighted[2]) if weighted else (None, part)
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


def _check_signs(part: str, name: str, flag: str) -> None:
    """Says which sign of a sum is wrong; in the name of a file all of this may stand."""
    if ENDING in part:
        return
    if _SUBTRACTED.search(part):
        raise InputError(f"{flag}: parts are added, none is subtracted; got {name!r}")
    if without := _WITHOUT_SIGN.fullmatch(part):
        raise InputError(
            f"{flag}: a * is missing after a weight in {name!r}: "
            f"write '{without[1]} * {without[2]}'"
        )


def _number(text: str, name: str, flag: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < 1e30:
        raise InputError(f"{flag}: a weight must be a positive number; got {text!r} in {name!r}")
    return weight


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
    return pj.weighted_sum(
        parts, name=" + ".join(f"{w:g} * {name}" for name, (w, _) in parts.items())
    )


def say_weights(sums: Sequence[Sum], distances: Sequence[pj.Distance]) -> None:
    """Prints what weights were found where none were given."""
    for total, distance in zip(sums, distances, strict=True):
        if len(total.distances) > 1 and None in total.weights:
            console.print(f"{total.name}: trained under {distance.name}")
