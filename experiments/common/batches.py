"""Arrays some rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

__all__ = ["floats", "in_batches"]


def in_batches(function: Callable[[np.ndarray], Any], array: np.ndarray, size: int) -> Any:
    """What a function gives for [n, ...], leaves [n, ...], some rows at a time: compiled once."""
    parts, kept = [], []
    for first in range(0, len(array), size):
        part = array[first : first + size]
        filled = np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)])
        parts.append(jax.tree.map(np.asarray, function(filled)))
        kept.append(len(part))
    return jax.tree.map(
        lambda *leaves: np.concatenate([x[:n] for x, n in zip(leaves, kept, strict=True)]), *parts
    )


def floats(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 in [0, 1]."""
    return images.astype(np.float32) / 255
