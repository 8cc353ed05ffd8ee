"""Times of several ways to do one thing, taken in turns so that a noisy machine is noisy to all."""

from __future__ import annotations

import importlib
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from typing import NamedTuple

__all__ = ["Times", "in_turns"]


class Times(NamedTuple):
    """Seconds of one way: median, and the quartiles around it."""

    median: float
    low: float
    high: float


def in_turns(module: str, *, rounds: int = 9) -> dict[str, Times]:
    """Times the ways of a module, a round of all of them at a time.

    Each way has a process of its own, which waits while the others are timed: frameworks in one
    process get in each other's way (PyTorch's idle threads spin on the cores that XLA wants).

    Args:
      module: has `WAYS`, `{name: build}`, where `build()` prepares and returns a function that
        does the work once and returns when it is done; or None where its package is missing.
      rounds: how often each is timed, after three calls to warm up.

    Returns:
      `{name: Times}`, in the module's order, without those whose package is missing.
    """
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    taken: dict[str, list[float]] = {}
    for name in importlib.import_module(module).WAYS:
        ours, theirs = context.Pipe()
        context.Process(target=_work, args=(module, name, theirs), daemon=True).start()
        theirs.close()  # So that a worker that dies is noticed, not waited for.
        try:
            ready = ours.recv()
        except EOFError:
            raise SystemExit(f"{name} could not be prepared; its error is above") from None
        if ready:
            workers[name], taken[name] = ours, []
    for _ in range(rounds):
        for name, worker in workers.items():
            worker.send(True)
            taken[name].append(worker.recv())
    for worker in workers.values():
        worker.send(False)
    return {name: _summary(seconds) for name, seconds in taken.items()}


def _work(module: str, name: str, pipe: Connection) -> None:
    way = importlib.import_module(module).WAYS[name]()
    if way is not None:
        for _ in range(3):
            way()
    pipe.send(way is not None)
    while way is not None and pipe.recv():
        begun = time.perf_counter()
        way()
        pipe.send(time.perf_counter() - begun)


def _summary(seconds: list[float]) -> Times:
    low, median, high = statistics.quantiles(seconds, n=4)
    return Times(median, low, high)
