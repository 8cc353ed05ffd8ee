"""Times of several ways to do one thing, taken in turns so that a noisy machine is noisy to all."""

from __future__ import annotations

import importlib
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

__all__ = ["Build", "Peers", "Row", "Taken", "Work", "in_turns"]


class Work(NamedTuple):
    """One way to do a row's work, prepared.

    Attributes:
      call: does it once and returns when it is done.
      operations: how many floating point operations that takes, where it is known.
      items: how many of what the row counts that does; times and operations are of one.
      prepare: what must be done before every call; it is not timed.
    """

    call: Callable[[], object]
    operations: float | None = None
    items: int = 1
    prepare: Callable[[], object] = lambda: None


Build = Callable[[], Work | None]
"""Prepares a way; None where its package is not installed."""


class Peers(NamedTuple):
    """Ways that ours is held against.

    Attributes:
      ways: `{name: build}`.
      budget: the largest ratio, our time to the fastest of theirs, that we allow ourselves.
    """

    ways: Mapping[str, Build]
    budget: float


class Row(NamedTuple):
    """One line of the table.

    Attributes:
      ours: builds our way.
      peers: `{kind: peers}`, each kind with a budget of its own.
      limit: the most seconds that ours may take, where that is what counts.
    """

    ours: Build
    peers: Mapping[str, Peers]
    limit: float | None = None

    @property
    def ways(self) -> dict[str, Build]:
        """All of them, ours first."""
        theirs = {way: build for kind in self.peers.values() for way, build in kind.ways.items()}
        return {"ours": self.ours, **theirs}


class Taken(NamedTuple):
    """What one way took.

    Attributes:
      median: seconds.
      low: the lower quartile.
      high: the upper quartile.
      mebibytes: by how much its process grew, at most, from before the way was built.
      operations: of one item, where they are known.
    """

    median: float
    low: float
    high: float
    mebibytes: float
    operations: float | None


_WARM_UP_CALLS, _WARM_UP_SECONDS = 3, 10.0
_TURN_SECONDS = 0.1


def in_turns(module: str, row: str, *, rounds: int = 9) -> dict[str, Taken]:
    """Times the ways of a row, a round of all of them at a time.

    Each way has a process of its own, which waits while the others are timed: frameworks in one
    process get in each other's way (PyTorch's idle threads spin on the cores that XLA wants).

    Args:
      module: has `ROWS`, `{name: Row}`.
      row: the row's name.
      rounds: how often each is timed, after three calls to warm up, fewer if they take long.

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
        _warm_up(work)
    pipe.send(work is not None)
    if work is None:
        return
    while pipe.recv():
        pipe.send(_turn(work) / work.items)
    operations = work.operations and work.operations / work.items
    pipe.send((_peak() - before, operations))


def _warm_up(work: Work) -> None:
    begun = time.perf_counter()
    for _ in range(_WARM_UP_CALLS):
        _timed(work)
        if time.perf_counter() - begun > _WARM_UP_SECONDS:
            break


def _turn(work: Work) -> float:
    """The seconds of a call; of many in a row where one is short.

    As in a loop: threads that slept through the others' turns take a millisecond to wake.
    """
    taken = _timed(work)
    count = int(_TURN_SECONDS / max(taken, 1e-6))
    return taken if count < 2 else sum(_timed(work) for _ in range(count)) / count


def _timed(work: Work) -> float:
    work.prepare()
    begun = time.perf_counter()
    work.call()
    return time.perf_counter() - begun


def _peak() -> float:
    """The most memory this process has had, in MiB.

    `getrusage` would begin with what its parent had.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
