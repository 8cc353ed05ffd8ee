"""Reads NumPy arrays from pickles, and nothing else.

A pickle is a program that can call anything. This reader does not run it: it interprets the
few opcodes that nested dicts, lists and tuples of arrays are made of, and knows the globals that
NumPy writes, which it rebuilds arrays from by itself. Any other opcode or global is refused by
name.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perceptual_jax.errors import InputError

__all__ = ["MAX_BYTES", "PickleError", "read_arrays"]

MAX_BYTES = 2**31
"""The largest pickle read."""

_DTYPES = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"}


class PickleError(InputError):
    """A pickle is malformed or holds more than arrays."""


@dataclass
class _Dtype:
    """A NumPy dtype in the making: `dtype("f4")`, then its state says the byte order."""

    name: str
    order: str = "|"


@dataclass
class _Array:
    """A NumPy array in the making: empty until its state arrives."""

    value: np.ndarray | None = None


class _Global:
    """A name that may be called: what it makes of the arguments."""

    def __init__(self, call: Callable[..., Any]):
        self.call = call


def _make_dtype(name: Any, *_flags: Any) -> _Dtype:
    if name not in _DTYPES:
        raise PickleError(f"an array of dtype {name!r}: only plain numbers are read")
    return _Dtype(name)


def _set_dtype(dtype: _Dtype, state: Any) -> None:
    order = state[1]
    if order not in ("<", "|", ">"):
        raise PickleError(f"a dtype of byte order {order!r}")
    dtype.order = order


def _set_array(array: _Array, state: Any) -> None:
    _version, shape, dtype, fortran, data = state
    array.value = _shaped(data, dtype, shape, "F" if fortran else "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array(_shaped(data, dtype, shape, order))


def _shaped(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not (
        isinstance(shape, tuple)
        and all(type(side) is int and side >= 0 for side in shape)
        and isinstance(dtype, _Dtype)
        and isinstance(data, bytes)
        and order in ("C", "F")
    ):
        raise PickleError("an array that is not made of (shape, dtype, order, bytes)")
    resolved = np.dtype(dtype.order.replace("|", "=") + dtype.name)
    if math.prod(shape) * resolved.itemsize != len(data):
        raise PickleError(f"an array of shape {shape} with {len(data)} bytes of data")
    return np.frombuffer(data, resolved).reshape(shape, order=order)


_GLOBALS: Mapping[str, _Global] = {
    # NumPy 2 writes numpy._core where NumPy 1 wrote numpy.core.
    "numpy.core.multiarray _reconstruct": _Global(lambda *_: _Array()),
    "numpy._core.multiarray _reconstruct": _Global(lambda *_: _Array()),
    # What protocol 5 calls instead.
    "numpy.core.numeric _frombuffer": _Global(_from_buffer),
    "numpy._core.numeric _frombuffer": _Global(_from_buffer),
    "numpy ndarray": _Global(lambda *_: _Array()),
    "numpy dtype": _Global(_make_dtype),
}

_MARK = object()
_CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    "BININT",
    "BININT1",
    "BININT2",
    "BINFLOAT",
    "LONG1",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


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
        return _finished(_interpret(path.read_bytes()))
    except PickleError as error:
        raise PickleError(f"{path} is not a pickle of arrays: it holds {error}") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise PickleError(f"{path} is not a pickle of arrays: it is malformed ({error})") from None


def _interpret(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def pop_to_mark() -> list[Any]:
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise PickleError("a mark that is missing")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    argument: Any
    for opcode, argument, _position in pickletools.genops(data):
        name = opcode.name
        if name in _LITERALS:
            stack.append(argument)
        elif name == "BYTEARRAY8":
            stack.append(bytes(argument))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif name in _TUPLES:
            count = _TUPLES[name]
            items = tuple(stack[-count:])
            del stack[-count:]
            stack.append(items)
        elif name == "APPEND":
            item = stack.pop()
            _expect(stack[-1], list).append(item)
        elif name == "APPENDS":
            items_to_add = pop_to_mark()
            _expect(stack[-1], list).extend(items_to_add)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _expect(stack[-1], dict)[_expect(key, str)] = value
        elif name == "SETITEMS":
            pairs = pop_to_mark()
            target = _expect(stack[-1], dict)
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                target[_expect(key, str)] = value
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                argument = f"{module} {attribute}"
            if argument not in _GLOBALS:
                raise PickleError(f"a reference to {argument.replace(' ', '.')!r}")
            stack.append(_GLOBALS[argument])
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_expect(function, _Global).call(*_expect(arguments, tuple)))
        elif name == "BUILD":
            state, built = stack.pop(), stack[-1]
            if isinstance(built, _Array):
                _set_array(built, state)
            else:
                _set_dtype(_expect(built, _Dtype), state)
        elif name in ("PROTO", "FRAME"):
            continue
        elif name == "STOP":
            break
        else:
            raise PickleError(f"the opcode {name}")
    if len(stack) != 1:
        raise PickleError(f"{len(stack)} values instead of one")
    return stack[0]


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise PickleError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _finished(value: Any, depth: int = 0, done: dict[int, Any] | None = None) -> Any:
    """Replaces arrays in the making by arrays; refuses what was left unfinished.

    What is shared is finished once: a few bytes can say a list of lists of the same lists.
    """
    done = {} if done is None else done
    if depth > 100:
        raise PickleError("containers nested more than 100 deep")
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, (_Dtype, _Global)) or value is _MARK:
        raise PickleError("a bare dtype or function")
    if isinstance(value, _Array):
        if value.value is None:
            raise PickleError("an array without data")
        return value.value
    finished = value
    if isinstance(value, dict):
        finished = {key: _finished(item, depth + 1, done) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        finished = type(value)(_finished(item, depth + 1, done) for item in value)
    done[id(value)] = finished
    return finished
