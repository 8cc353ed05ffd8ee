"""Progress on the terminal: a bar with rate and time left, plain lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from perceptual_jax.errors import printable

__all__ = ["Advance", "console", "progress"]


class _Console(Console):
    """Shows the escapes of what cannot be printed: a file's name may command the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str("\n".join(map(printable, text.split("\n"))), **options)


console = _Console(highlight=False, markup=False, soft_wrap=True)

_SECONDS_BETWEEN_LINES = 10.0


class Advance(Protocol):
    """Tells the bar that `count` more are done."""

    def __call__(self, count: int = 1) -> None:
        """Says so."""


@contextmanager
def progress(title: str, total: int, *, unit: str = "steps", done: int = 0) -> Iterator[Advance]:
    """Shows the progress of a loop.

    Args:
      title: what is going on.
      total: how many units there are.
      unit: their name.
      done: how many were done before.

    Yields:
      The function to call when some are done.
    """
    begun = time.perf_counter()
    start = done
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, completed=done, rate="")

            def advance(count: int = 1) -> None:
                nonlocal done
                done += count
                rate = (done - start) / max(time.perf_counter() - begun, 1e-9)
                bar.update(task, advance=count, rate=f"{rate:.3g} {unit}/s")

            yield advance
        return

    said = begun

    def say(count: int = 1) -> None:
        nonlocal done, said
        done += count
        now = time.perf_counter()
        if now - said >= _SECONDS_BETWEEN_LINES or done >= total:
            said = now
            rate = (done - start) / max(now - begun, 1e-9)
            left = (total - done) / max(rate, 1e-9)
            console.print(f"{title}: {done}/{total} {unit}, {rate:.3g}/s, {left:.0f} s left")

    yield say
