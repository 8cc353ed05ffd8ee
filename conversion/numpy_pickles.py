"""Reads pickles of NumPy arrays, as JAX packages ship their weights, without running them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conversion.pickles import (
    MAX_DEPTH,
    Globals,
    Made,
    PickleError,
    Rebuild,
    are_counts,
    interpret,
    malformed,
    one_line,
)

__all__ = ["MAX_BYTES", "NUMPY_GLOBALS", "finished", "read_arrays"]

MAX_BYTES = 2**31
"""The largest pickle read."""

_DTYPES = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"}


class _Dtype(Made):
    """A NumPy dtype in the making: `dtype("f4")`, then its state says the byte order."""

    def __init__(self, name: Any):
        if type(name) is not str or name not in _DTYPES:
            # Only text is quoted: tuples of tuples, shared, can be endless to print.
            quoted = repr(name) if type(name) is str else f"a {type(name).__name__}"
            raise PickleError(f"an array of dtype {quoted}: only plain numbers are read")
        self.name = name
        self.order = "|"

    def build(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", "|", ">"):
            raise PickleError("a dtype without a byte order")
        self.order = order


class _Array(Made):
    """A NumPy array in the making: empty until its state arrives."""

    def __init__(self, value: np.ndarray | None = None):
        self.value = value

    def build(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        self.value = _shaped(data, dtype, shape, "F" if fortran else "C")


def _shaped(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not (
        are_counts(shape)
        and isinstance(dtype, _Dtype)
        and isinstance(data, bytes)
        and order in ("C", "F")
    ):
        raise PickleError("an array that is not made of (shape, dtype, order, bytes)")
    resolved = np.dtype(dtype.order.replace("|", "=") + dtype.name)
    if math.prod(shape) * resolved.itemsize != len(data):
        raise PickleError(f"an array of shape {shape} with {len(data)} bytes of data")
    return np.frombuffer(data, resolved).reshape(shape, order=order)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Protocol 2 has no bytes: it writes text, and a call that encodes it."""
    if type(text) is not str or encoding != "latin1":
        raise PickleError("bytes that are not latin1 text")
    return text.encode("latin1")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array(_shaped(data, dtype, shape, order))


def _scalar(dtype: Any, data: Any) -> Any:
    return _shaped(data, dtype, (), "C").item()


_CORE = {
    "multiarray _reconstruct": Rebuild(lambda *_: _Array()),
    "numeric _frombuffer": Rebuild(_from_buffer),  # What protocol 5 calls instead.
    "multiarray scalar": Rebuild(_scalar),
}

NUMPY_GLOBALS: Globals = {
    # NumPy 2 writes numpy._core where NumPy 1 wrote numpy.core.
    **{f"numpy.core.{name}": call for name, call in _CORE.items()},
    **{f"numpy._core.{name}": call for name, call in _CORE.items()},
    "numpy ndarray": Rebuild(lambda *_: _Array()),
    "numpy dtype": Rebuild(lambda name, *_flags: _Dtype(name)),
    "_codecs encode": Rebuild(_encoded),
    # What protocol 2 writes for no bytes at all.
    "__builtin__ bytes": Rebuild(lambda: b""),
}


def read_arrays(path: str | Path) -> Any:
    """Reads a pickle of arrays in dicts, lists and tuples.

    Args:
      path: the file, of at most `MAX_BYTES`.

    Returns:
      What was pickled, arrays as read-only NumPy arrays.

    Raises:
      PickleError: if the file is malformed, too large, or holds anything but plain numeric
        arrays, containers, numbers, text and bytes; the message names what it held.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise PickleError(f"{path} is {size:,} bytes, more than {MAX_BYTES:,}")
    try:
        return finished(interpret(io.BytesIO(path.read_bytes()), NUMPY_GLOBALS, longest=size))
    except PickleError as error:
        raise PickleError(f"{path} is not a pickle of arrays: it holds {one_line(error)}") from None
    except malformed as error:
        raise PickleError(
            f"{path} is not a pickle of arrays: it is malformed ({one_line(error)})"
        ) from None


def finished(value: Any, depth: int = 0, done: dict[int, Any] | None = None) -> Any:
    """Replaces arrays in the making by arrays; refuses what was left unfinished.

    What is shared is finished once: a few bytes can say a list of lists of the same lists.
    """
    done = {} if done is None else done
    if depth > MAX_DEPTH:
        raise PickleError(f"containers nested more than {MAX_DEPTH} deep")
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array):
        if value.value is None:
            raise PickleError("an array without data")
        return value.value
    if isinstance(value, (Made, Rebuild)):
        raise PickleError("a bare dtype or function")
    result = value
    if isinstance(value, Mapping):
        result = {key: finished(item, depth + 1, done) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        result = type(value)(finished(item, depth + 1, done) for item in value)
    done[id(value)] = result
    return result
