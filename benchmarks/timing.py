"""Times of several ways to do one thing, taken in turns so that a noisy machine is noisy to all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["Times", "in_turns"]


class Times(NamedTuple):
    """Seconds of one way: median, and the quartiles around it."""

    median: float
    low: float
    high: float


def in_turns(ways: Mapping[str, Callable[[], object]], *, rounds: int = 9) -> dict[str, Times]:
    """Calls every way once to warm up, then `rounds` times in turns.

    A way must return only when its work is done.
    """
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - begun)
    return {name: _summary(seconds) for name, seconds in taken.items()}


def _summary(seconds: list[float]) -> Times:
    low, median, high = statistics.quantiles(seconds, n=4)
    return Times(median, low, high)
