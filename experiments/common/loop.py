"""Loops of jitted steps: how many at a time, and how they end when asked to."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax

from experiments.common import hosts
from experiments.common.progress import Advance, progress
from experiments.common.run_folder import RunFolder

__all__ = ["Interrupted", "chunk_length", "interruptible", "stoppable"]


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """The run was asked to stop, and what it had done is saved; the message says how to go on."""


def chunk_length() -> int:
    """How many steps to take inside one jitted call.

    On CPU XLA runs the body of a loop with less parallelism: a VGG step takes twice as long in
    `lax.scan` as by itself. Accelerators save the time between calls.
    """
    return 1 if jax.default_backend() == "cpu" else 50


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C or SIGTERM into a flag, which the function yielded returns.

    The loop looks at it between chunks, saves, and raises `Interrupted`. A second signal ends
    the program at once. Of several processes all stop where one was asked to: each must look as
    often as the others.
    """
    asked = False
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del frame
        asked = True
        signal.signal(number, before[signal.Signals(number)])

    try:
        for name in (signal.SIGINT, signal.SIGTERM):
            before[name] = signal.signal(name, handle)
    except ValueError:  # Not the main thread: whoever runs us there handles signals.
        before.clear()
    try:
        yield lambda: hosts.agreed(asked)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextmanager
def stoppable(
    title: str, total: int, *, unit: str, folder: RunFolder, asked_to_stop: Callable[[], bool]
) -> Iterator[Advance]:
    """Progress of what is not saved on the way: when asked to stop, `Interrupted` is raised."""
    with progress(title, total, unit=unit) as advance:

        def advance_or_stop(count: int = 1) -> None:
            advance(count)
            if asked_to_stop():
                raise Interrupted(f"stopped at {title}; go on with: {folder.resume_command}")

        yield advance_or_stop
