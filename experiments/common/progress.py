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
    """Shows the progress of a loop; the rate leaves out what is done first, which compiles.

    Args:
      title: what is going on.
      total: how many units there are.
      unit: their name.
      done: how many were done before.

    Yields:
      The function to call when some are done.
    """
    begun = time.perf_counter()
    first: tuple[float, int] | None = None

    def advanced(count: int) -> float | None:
        """How many a second since the first ones; None for those."""
        nonlocal done, first
        done += count
        now = time.perf_counter()
        if first is None:
            first = (now, done)
            return None
        return (done - first[1]) / max(now - first[0], 1e-9)

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
                rate = advanced(count)
                shown = "" if rate is None else f"{rate:.3g} {unit}/s"
                bar.update(task, advance=count, rate=shown)

            yield advance
        return

    said = begun

    def say(count: int = 1) -> None:
        nonlocal said
        rate = advanced(count)
        now = time.perf_counter()
        if now - said >= _SECONDS_BETWEEN_LINES or done >= total:
            said = now
            if rate is None:
                pace = f" after {now - begun:.0f} s"
            else:
                pace = f", {rate:.3g}/s, {(total - done) / max(rate, 1e-9):.0f} s left"
            console.print(f"{title}: {done}/{total} {unit}{pace}")

    yield say
