"""Times of several ways to do one thing, taken in turns so that a noisy machine is noisy to all."""

from __future__ import annotations

import importlib
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import NamedTuple

__all__ = ["Row", "Taken", "Work", "in_turns"]


class Work(NamedTuple):
    """One way to do a row's work, prepared.

    Attributes:
      call: does it once and returns when it is done.
      operations: how many floating point operations that takes, where it is known.
    """

    call: Callable[[], object]
    operations: float | None = None


class Row(NamedTuple):
    """One line of the table.

    Attributes:
      ways: `{name: build}`, ours first; `build()` returns the `Work`, or None where the way's
        package is not installed.
      budget: the largest ratio, our time to the fastest peer's, that we allow ourselves.
    """

    ways: Mapping[str, Callable[[], Work | None]]
    budget: float


class Taken(NamedTuple):
    """What one way took.

    Attributes:
      median: seconds.
      low: the lower quartile.
      high: the upper quartile.
      mebibytes: by how much its process grew, at most, from before the way was built.
      operations: as in `Work`.
    """

    median: float
    low: float
    high: float
    mebibytes: float
    operations: float | None


def in_turns(module: str, row: str, *, rounds: int = 9) -> dict[str, Taken]:
    """Times the ways of a row, a round of all of them at a time.

    Each way has a process of its own, which waits while the others are timed: frameworks in one
    process get in each other's way (PyTorch's idle threads spin on the cores that XLA wants).

    Args:
      module: has `ROWS`, `{name: Row}`.
      row: the row's name.
      rounds: how often each is timed, after three calls to warm up.

    Returns:
      `{way: Taken}`, in the row's order, without those whose package is missing.
    """
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    seconds: dict[str, list[float]] = {}
    for way in importlib.import_module(module).ROWS[row].ways:
        ours, theirs = context.Pipe()
        context.Process(target=_work, args=(module, row, way, theirs), daemon=True).start()
        theirs.close()  # So that a worker that dies is noticed, not waited for.
        try:
            ready = ours.recv()
        except EOFError:
            raise SystemExit(f"{row}: {way} could not be prepared; its error is above") from None
        if ready:
            workers[way], seconds[way] = ours, []
    for _ in range(rounds):
        for way, worker in workers.items():
            worker.send(True)
            seconds[way].append(worker.recv())
    taken = {}
    for way, worker in workers.items():
        worker.send(False)
        low, median, high = statistics.quantiles(seconds[way], n=4)
        taken[way] = Taken(median, low, high, *worker.recv())
    return taken


def _work(module: str, row: str, way: str, pipe: Connection) -> None:
    build = importlib.import_module(module).ROWS[row].ways[way]
    before = _peak()
    work = build()
    if work is not None:
        for _ in range(3):
            work.call()
    pipe.send(work is not None)
    if work is None:
        return
    while pipe.recv():
        begun = time.perf_counter()
        work.call()
        pipe.send(time.perf_counter() - begun)
    pipe.send((_peak() - before, work.operations))


def _peak() -> float:
    """The most memory this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
