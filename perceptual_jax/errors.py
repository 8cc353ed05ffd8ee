"""The one error type for what a user can mend: bad images, options, specs, files."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import TypeVar

import numpy as np

__all__ = [
    "InputError",
    "choice",
    "finite_number",
    "kernel_width",
    "nearest",
    "positive_integer",
    "positive_number",
    "printable",
    "shortened",
]


_LONGEST = 4000  # Of a message, in characters: files may quote themselves in it.


class InputError(ValueError):
    """What was given cannot be used; the message says what came and what to do.

    The command line prints it as one line and exits with code 2. It is a
    `ValueError`, so callers of the library need not know it. What cannot be printed, as a hostile
    name of a file may have it to command a terminal, stands in the message as its escape.
    """

    def __init__(self, message: str):
        """An error that says so."""
        super().__init__(shortened(printable(message), _LONGEST))


def printable(text: str) -> str:
    r"""Text with the escapes of characters that cannot be printed.

    Example:
      >>> printable("a\x1b[2J b")
      'a\\x1b[2J b'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int = 200) -> str:
    """Text of which no more than the first characters are shown: what a file says may be long."""
    return text if len(text) <= most else f"{text[:most]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `", did you mean 'x'?"` for the known word closest to `word`, or `""`."""
    close = difflib.get_close_matches(word[:200].lower(), list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


K = TypeVar("K", str, str | None)


def choice(what: str, value: object, known: Iterable[K]) -> K:
    """Returns `value` if it is one of `known`; raises an `InputError` that lists them if not."""
    known = list(known)
    for each in known:
        if type(value) is type(each) and value == each:
            return each
    raise InputError(
        f"{what} must be one of {', '.join(map(repr, known))}; got {value!r}"
        f"{nearest(str(value), [each for each in known if each is not None])}"
    )


def finite_number(what: str, value: object) -> float:
    """Returns `value` as a float if it is a finite real number; raises an `InputError` if not."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise InputError(f"{what} must be a finite number; got {value!r}")


def positive_number(what: str, value: object, least: float = 0.0, most: float = math.inf) -> float:
    """Returns `value` as a float if it is positive and in bounds; raises an `InputError` if not."""
    number = finite_number(what, value)
    if number <= 0:
        raise InputError(f"{what} must be positive; got {value!r}")
    if number < least:
        raise InputError(f"{what} must be at least {least:g}; got {value!r}")
    if number > most:
        raise InputError(f"{what} must be at most {most:g}; got {value!r}")
    return number


def kernel_width(what: str, value: object) -> float:
    """Returns the width of a kernel, from 1e-15 to 1e15: its square is a number of float32."""
    return positive_number(what, value, 1e-15, 1e15)


def positive_integer(what: str, value: object, most: int = 2**31 - 1) -> int:
    """Returns `value` as an int of 1 to `most`; raises an `InputError` if it is none."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1:
        if value <= most:
            return int(value)
        raise InputError(f"{what} must be at most {most}; got {value!r}")
    raise InputError(f"{what} must be a whole number of at least 1; got {value!r}")
