"""What of a run's results.json is shown: the one number of its card, and those to compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

__all__ = ["MOST_NUMBERS", "Headline", "averaged", "headline", "trimmed"]

MOST_NUMBERS = 300
"""Of a run, that can be compared: a hundred runs must open at once."""

_LONGEST_LIST = 8
"""A longer one is a curve, of which the ends are shown."""
_LONGEST_TEXT = 60
_DEEPEST = 8
_DIGITS = 6


class Headline(NamedTuple):
    """The one number that a run's card shows.

    Attributes:
      what: what was measured; numbers of the same can be sorted.
      value: the number.
      whose: what it was measured of: of several distances the best, or "".
      off: how far it is from the best: less is better.
      comparable: whether numbers of another `whose` can be sorted with it.
    """

    what: str
    value: float
    whose: str
    off: float
    comparable: bool


# --- The headline --------------------------------------------------------------------------


class _Best(NamedTuple):
    """How to find a headline: numbers along a path through results.json.

    Attributes:
      path: the keys; `*` is any, and `_WHOLE` the one that is all of its parts, or any.
      group: which of these two names what is compared; over the others the mean is taken.
      off: how far a number is from the best: of what is compared the least is shown.
      what: what is measured, for a person.
      first: show the first instead, of what does not compare.
    """

    path: tuple[str, ...]
    group: int
    off: Callable[[float], float]
    what: str
    first: bool = False


_WHOLE = "all, or *"
"""In a path: the key `all`, which counts every item once; any key where there is none."""


def _less(value: float) -> float:
    return value


def _more(value: float) -> float:
    return -value


def _near_one(value: float) -> float:
    return abs(value - 1)


_HEADLINES = {
    "demo": _Best(("agreement", "*", _WHOLE), 0, _more, "agreement"),
    "compare": _Best(("*", "*"), 1, _less, "mean distance", first=True),
    "two-afc": _Best(("scores", "*", _WHOLE, "mean"), 0, _more, "agreement"),
    "train-metric": _Best(("trained", "mean"), 0, _more, "agreement"),
    "image-mean": _Best(("sharpness", "*", "*"), 0, _near_one, "sharpness"),
    "cluster": _Best(("results", "*", "scores", "*", "nmi"), 0, _more, "NMI"),
    "style-transfer": _Best(("transfers", "*", "losses", "style"), 0, _less, "style loss"),
    "invert": _Best(("*", "*", "lpips"), 0, _less, "LPIPS"),
    "autoencoder": _Best(("held_out", "*", "lpips-alex"), 0, _less, "LPIPS, held out"),
    "glo": _Best(("held_out", "*", "lpips-alex"), 0, _less, "LPIPS, held out"),
    "super-resolution": _Best(("means", "*", "*", "lpips-alex"), 1, _less, "LPIPS"),
    "inpaint": _Best(("means", "*", "*", "lpips-alex"), 1, _less, "LPIPS in the holes"),
    "fast-style": _Best(("seconds", "*"), 0, _less, "s a picture", first=True),
}
"""What a person asks of a run first. A command without one shows its pictures alone."""


def headline(command: str, results: dict[str, Any]) -> Headline | None:
    """The one number of a run's card; None where the results are not what is expected."""
    if command == "claims":
        return _claims(results)
    if command not in _HEADLINES:
        return None
    best = _HEADLINES[command]
    if results.get("test") == "jnd":
        best = best._replace(what="average precision")
    found: dict[str, list[float]] = {}
    for names, number in _along(results, best.path):
        found.setdefault(names[best.group] if names else "", []).append(number)
    if not found:
        return None
    means = _means(found)
    off = {name: best.off(mean) for name, mean in means.items()}
    whose = next(iter(off)) if best.first else min(off, key=lambda name: off[name])
    return Headline(
        best.what, _rounded(means[whose]), whose[:_LONGEST_TEXT], off[whose], not best.first
    )


def _along(
    value: Any, path: tuple[str, ...], names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], float]]:
    """All finite numbers along a path, each with the keys that stood for its `*` and `_WHOLE`."""
    if not path:
        if _is_number(value):
            yield names, float(value)
        return
    inside, named = dict(_items(value)), path[0] not in ("*", _WHOLE)
    wanted = path[0] if named else "all" if path[0] == _WHOLE and "all" in inside else None
    for key, below in inside.items():
        if wanted in (None, key):
            yield from _along(below, path[1:], names if named else (*names, key))


def _means(found: dict[str, list[float]]) -> dict[str, float]:
    return {name: math.fsum(values) / len(values) for name, values in found.items()}


def _claims(results: dict[str, Any]) -> Headline | None:
    verdicts = [each.get("verdict") for each in results.values() if isinstance(each, dict)]
    if not verdicts:
        return None
    hold = verdicts.count("holds")
    return Headline(f"of {len(verdicts)} claims hold", hold, "", _more(hold), comparable=True)


# --- Numbers to compare --------------------------------------------------------------------


def averaged(command: str, results: dict[str, Any]) -> dict[str, Any]:
    """Results, of many pairs that were compared after each distance's mean over them."""
    if command != "compare" or len(results) < 2:
        return results
    found: dict[str, list[float]] = {}
    for (_, distance), number in _along(results, ("*", "*")):
        found.setdefault(distance, []).append(number)
    means = _means(found)
    return {f"mean of {len(results)} pairs": means, **results}


def trimmed(results: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Results without what is too much to look at.

    Returns:
      Dicts of dicts whose leaves are numbers of six digits, truth values and short texts; and how
      many leaves were left out after the first `MOST_NUMBERS`.
    """
    count = 0

    def trim(value: Any, depth: int) -> Any:
        nonlocal count
        if isinstance(value, (dict, list)):
            if depth == _DEEPEST:
                return None
            below = ((key, trim(each, depth + 1)) for key, each in _shown_items(value))
            return {key[:_LONGEST_TEXT]: each for key, each in below if each is not None} or None
        if isinstance(value, str):
            leaf: Any = value if len(value) <= _LONGEST_TEXT else None
        elif isinstance(value, bool):
            leaf = value
        else:
            leaf = _rounded(value) if _is_number(value) else None
        count += leaf is not None
        return leaf if count <= MOST_NUMBERS else None

    return trim(results, 0) or {}, max(0, count - MOST_NUMBERS)


def _shown_items(value: dict[str, Any] | list[Any]) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict) or len(value) <= _LONGEST_LIST or not _is_number(value[0]):
        return _items(value)
    return [("first", value[0]), ("last", value[-1])]


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    """Keys and values of a dict; those of a list are named by the texts in each, or numbered."""
    if isinstance(value, dict):
        return value.items()
    if not isinstance(value, list):
        return ()
    named: dict[str, Any] = {}
    for place, each in enumerate(value):
        texts = each.values() if isinstance(each, dict) else ()
        name = ", ".join(text for text in texts if isinstance(text, str))
        named[name if name and name not in named else f"{name} {place + 1}".strip()] = each
    return named.items()


def _is_number(value: Any) -> bool:
    """Whether it is a finite number that a browser can hold."""
    return type(value) in (int, float) and abs(value) < 1e300


def _rounded(number: float) -> float:
    return number if isinstance(number, int) else float(f"{number:.{_DIGITS}g}")
