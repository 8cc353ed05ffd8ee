"""Ways to damage bytes, text and trees: the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

__all__ = ["HOSTILE_TEXT", "altered", "damaged", "reworded"]

HOSTILE_TEXT = (
    *("", " ", "\0", "\n", "\r", "\x1b[2J", "\x1b]0;owned\x07", "\u202e"),
    *("\ud800", "é", "\U0001f600"),
    *("../x", "../../../../etc/passwd", "/etc/passwd", "/dev/zero", "file:///etc/passwd"),
    *("~", "$HOME", "%s%n", "a" * 300, "a/" * 3000, "C:\\x", ".", "..", "x.png\0.txt"),
    *("nan", "inf", "-inf", "1e999", "-1", "9" * 5000, "0x10", "1_0", "٣", "1e-320", "-0"),
    *('"', "'", '"""', ",", ";", "\\", "<script>alert(1)</script>", "=cmd|' /C calc'!A0"),
    *("__import__('os').system('true')", "{0.__class__}", "null", "true", "[", "{", "NaN"),
)  # fmt: skip
"""Text that readers have stumbled over."""

_HOSTILE_VALUES = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**400), 0.5, 1e308, float("nan")),
    *(float("inf"), [], {}, [[]], [None], {"a": 1}, {"__class__": "x"}, ["a", 1], [1.5, []]),
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, removed, doubled or moved, or the end cut off."""
    changed = bytearray(data)
    at, length = rng.randrange(len(data)), rng.randint(1, 40)
    way = rng.choice(["flip", "flip", "flip", "set", "cut", "remove", "double", "insert"])
    if way == "flip":
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    elif way == "set":
        changed[at] = rng.choice(b"\x00\xff().]}tRQb")
    elif way == "cut":
        del changed[at:]
    elif way == "remove":
        del changed[at : at + length]
    elif way == "double":
        changed[at:at] = changed[at : at + length]
    else:
        changed[at:at] = rng.randbytes(length)
    return bytes(changed)


def reworded(text: str, rng: random.Random, words: Sequence[str] = ()) -> str:
    """Text with pieces removed, doubled, or replaced by hostile ones or by some of the words."""
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(text) + 1), rng.randint(0, 12)
        piece = rng.choice([*HOSTILE_TEXT, *words, text[at : at + length] * 2, ""])
        text = text[:at] + piece + text[at + length :]
    return text


def altered(value: Any, rng: random.Random) -> str:
    """JSON of a tree with values of other kinds, keys missing or renamed; or damaged text."""
    tree = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 2)):
        tree = _altered(tree, rng)
    text = json.dumps(tree)
    if rng.random() < 0.1:
        depth = rng.choice([50, 10_000, 100_000])
        text = rng.choice(["[" * depth, "[" * depth + "]" * depth, '{"a":' * depth])
    elif rng.random() < 0.2:
        text = reworded(text, rng)
    return text


def _altered(tree: Any, rng: random.Random) -> Any:
    """The tree with one place changed, at any depth."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        way = rng.random()
        if way < 0.7:
            return tree | {key: _altered(tree[key], rng)}
        if way < 0.8:
            return {other: item for other, item in tree.items() if other != key}
        return tree | {rng.choice(HOSTILE_TEXT): tree[key]}
    if isinstance(tree, list) and tree and rng.random() < 0.7:
        at = rng.randrange(len(tree))
        return [*tree[:at], _altered(tree[at], rng), *tree[at + 1 :]]
    return rng.choice([*_HOSTILE_VALUES, *HOSTILE_TEXT, [tree], {"a": tree}, str(tree)])
