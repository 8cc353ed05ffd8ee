"""A tensor in somebody's file: its shape and dtype at once, its values when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Tensor"]


class Tensor(NamedTuple):
    """A tensor that stays in its file until it is read.

    Attributes:
      shape: its shape.
      dtype: its dtype in the file.
      rows: `rows(start, stop)` reads a part of the first axis into memory of its own.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    rows: Callable[[int, int], np.ndarray]

    def read(self) -> np.ndarray:
        """All of it (of at least one axis)."""
        return self.rows(0, self.shape[0])

    @classmethod
    def of(cls, array: np.ndarray) -> Tensor:
        """An array that is in memory already."""
        return cls(array.shape, array.dtype, lambda start, stop: array[start:stop])
