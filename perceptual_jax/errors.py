"""The one error type for what a user can mend: bad images, options, specs, files."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable

__all__ = ["InputError", "choice", "finite_number", "nearest"]


class InputError(ValueError):
    """What was given cannot be used; the message says what came and what to do.

    The command line prints it as one line and exits with code 2. It is a
    `ValueError`, so callers of the library need not know it.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `", did you mean 'x'?"` for the known word closest to `word`, or `""`."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def choice(what: str, value: object, known: Iterable[str]) -> str:
    """Returns `value` if it is one of `known`; raises an `InputError` that lists them if not."""
    known = list(known)
    if isinstance(value, str) and value in known:
        return value
    raise InputError(
        f"{what} must be one of {', '.join(map(repr, known))}; got {value!r}"
        f"{nearest(str(value), known)}"
    )


def finite_number(what: str, value: object) -> float:
    """Returns `value` as a float if it is a finite real number; raises an `InputError` if not."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise InputError(f"{what} must be a finite number; got {value!r}")
