"""Sums of distances as they are written: "l1 + 0.1 * lpips-vgg"."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from perceptual_jax.distance import Distance, weighted_sum
from perceptual_jax.distances.learned import ENDING
from perceptual_jax.errors import InputError, shortened

__all__ = ["LONGEST", "Part", "is_sum", "read_sum", "sum_of", "write_sum"]

_PLUS = " + "
LONGEST = 2000
"""Of a spec and of a sum, in characters."""
_WEIGHTED = re.compile(r"^([0-9][0-9.eE+-]*)\s*\*\s*(.*)", re.DOTALL)
_WITHOUT_SIGN = re.compile(r"([0-9][0-9.eE+-]*) ?([a-z][^*]*)")
_WEIGHT_LAST = re.compile(r"([^*]+)\*\s*([0-9][0-9.eE+-]*)")
_SUBTRACTED = re.compile(r"(?:^| )- ?[0-9][0-9.eE-]*(?: ?\*| [a-z])|\S - [a-z]")


class Part(NamedTuple):
    """One of what is added up.

    Attributes:
      weight: what it is multiplied by; None where nothing was written.
      spec: of the distance.
    """

    weight: float | None
    spec: str


def is_sum(text: str) -> bool:
    """Whether it has the signs of a sum, and is no file that is called so.

    Example:
      >>> is_sum("l1 + 0.1 * lpips-vgg"), is_sum("0.5 * l1"), is_sum("mmd++")
      (True, True, False)
    """
    if len(text) > LONGEST:  # It is refused by whoever reads it, at once.
        return _PLUS in text
    file, ending, _ = text.strip().partition(ENDING)
    if ending and os.path.exists(file + ending):  # noqa: PTH110 (a Path's raises: names too long)
        return False
    if len(_split(text)) > 1 or _WEIGHTED.match(file) or file.startswith("("):
        return True
    called = "" if ending else _called(file)
    return bool(_WEIGHT_LAST.fullmatch(called) or _SUBTRACTED.search(called))


def read_sum(text: str) -> list[Part]:
    """The parts of a sum, with spaces about every plus; of what is no sum, the one part.

    Raises:
      InputError: for a weight that is no positive number, comes last, or lacks its *; for a
        minus, brackets, or nothing beside a plus; for more than 2,000 characters.

    Example:
      >>> read_sum("l1 + 0.1 * lpips-vgg")
      [Part(weight=None, spec='l1'), Part(weight=0.1, spec='lpips-vgg')]
    """
    if not is_sum(text):
        return [Part(None, text)]
    if len(text) > LONGEST:
        raise InputError(f"a sum has at most {LONGEST} characters; got {len(text)}")
    return [_read_part(part.strip(), text) for part in _split(text)]


def write_sum(parts: Sequence[tuple[float, str]]) -> str:
    """The sum of so many times each spec, as `read_sum` reads it.

    Example:
      >>> write_sum([(1.0, "l1"), (0.1, "lpips-vgg")])
      'l1 + 0.1 * lpips-vgg'
    """
    (first, spec), *others = parts
    written = [spec if first == 1 else f"{_written(first)} * {spec}"]
    return _PLUS.join([*written, *(f"{_written(weight)} * {spec}" for weight, spec in others)])


def sum_of(parts: Mapping[str, tuple[float, Distance]]) -> Distance:
    """The weighted sum of distances by their names, itself called as it is written."""
    return weighted_sum(parts, name=write_sum([(w, name) for name, (w, _) in parts.items()]))


def _split(text: str) -> list[str]:
    """What stands between pluses, but for those in the options of a distance."""
    parts: list[str] = []
    open_brackets = 0
    for piece in text.split(_PLUS):
        if open_brackets > 0:
            parts[-1] += _PLUS + piece
        else:
            parts.append(piece)
        open_brackets += piece.count("(") - piece.count(")")
    return parts


def _called(part: str) -> str:
    """A part without the options of its distance."""
    return part.partition("(")[0]


def _read_part(part: str, text: str) -> Part:
    shown = shortened(repr(text))
    # In the name of a file all of this may stand.
    if ENDING not in part:
        if _SUBTRACTED.search(_called(part)):
            raise InputError(f"parts are added, none is subtracted; got {shown}")
        if without := _WITHOUT_SIGN.fullmatch(part):
            raise InputError(
                f"a * is missing after a weight in {shown}: write '{without[1]} * {without[2]}'"
            )
        if last := _WEIGHT_LAST.fullmatch(part):
            raise InputError(
                f"a weight comes first: write '{last[2]} * {last[1].strip()}' in {shown}"
            )
    weighted = _WEIGHTED.fullmatch(part)
    named = _called(weighted[2] if weighted else part).strip()
    if not named and "(" in part:
        raise InputError(f"a sum has no brackets: give each part its weight; got {shown}")
    if not named:
        raise InputError(f"nothing stands beside a + in {shown}")
    if not weighted:
        return Part(None, part)
    if _WEIGHTED.match(weighted[2]):
        raise InputError(f"a part has one weight; got {shortened(repr(part))}")
    return Part(_number(weighted[1], shown), weighted[2])


def _number(text: str, shown: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < 1e30:
        raise InputError(f"a weight must be a positive number; got {text!r} in {shown}")
    return weight


def _written(weight: float) -> str:
    """No more digits than it takes to read the same number."""
    short = f"{weight:g}"
    return short if float(short) == weight else repr(weight)
