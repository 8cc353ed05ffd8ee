"""Reads pickles without running them.

A pickle is a program that can call anything. This reader does not run it: it interprets the few
opcodes that data is made of, and knows only the globals it is told of, each of which it
answers for by itself. Any other opcode or global is refused by name.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from perceptual_jax.errors import InputError

__all__ = [
    "MAX_DEPTH",
    "Globals",
    "Limited",
    "Made",
    "PickleError",
    "Rebuild",
    "ReferenceRefusedError",
    "are_counts",
    "interpret",
    "malformed",
    "one_line",
]

MAX_OPCODES = 1_000_000
"""The longest program read: that of a whole checkpoint of VGG-19 has some ten thousand."""

MAX_DEPTH = 100
"""The deepest nesting of containers."""

_MAX_ARGUMENTS = 16  # Of a call; the longest known have seven.
_MAX_AXES = 64  # As many as NumPy and PyTorch allow.


class PickleError(InputError):
    """A pickle is malformed or holds more than it should."""


class ReferenceRefusedError(PickleError):
    """A pickle names a global that is not allowed."""


class Rebuild:
    """What stands for a global that may be called: what it makes of the arguments."""

    def __init__(self, call: Callable[..., Any]):
        self.call = call


class Made:
    """Base of what a global makes when pickle completes it later, by BUILD."""

    def build(self, state: Any) -> None:
        """Takes the state that pickle gives."""
        raise PickleError(f"a state for {type(self).__name__}")


Globals = Mapping[str, Any]
"""`{"module name": what stands for it}`: a `Rebuild` for what may be called."""

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
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
    "BINSTRING",  # Text, as Python 2 wrote it.
    "SHORT_BINSTRING",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

# What a malformed pickle makes the interpreter, or Python's parser of opcodes, raise.
malformed = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
)


def one_line(error: BaseException) -> str:
    """What an error says, in one line of bounded length: a hostile file may speak through it."""
    return " ".join(str(error)[:1000].split()) or type(error).__name__


def are_counts(value: Any) -> bool:
    """Whether a value of a pickle can be a shape, or strides: a tuple of a few natural numbers."""
    return (
        isinstance(value, tuple)
        and len(value) <= _MAX_AXES
        and all(type(count) is int and 0 <= count < 2**63 for count in value)
    )


class Limited:
    """A file whose reads are bounded: a length that lies must not fill the memory.

    Args:
      file: a seekable binary file or memory map.
      most: the most bytes that its reads together may ask for.
      what: the file, in messages.
    """

    def __init__(self, file: Any, most: int, what: str):
        self._file = file
        self._what = what
        self._most = most
        self._left = most
        self.tell = file.tell
        self.seek = file.seek

    def read(self, count: int = 2**17) -> bytes:
        """The next bytes, as files read them."""
        # zipfile reads the end of an archive, of at most 64 KiB, without saying how much it is.
        self._left -= count
        if self._left < 0:
            raise PickleError(f"{self._what} that asks for more than {self._most:,} bytes")
        return self._file.read(count)

    def readline(self) -> bytes:
        """The next line."""
        # Only opcodes of text protocols and GLOBAL end by a newline; names are short.
        start = self._file.tell()
        line = self._file.read(1000)
        end = line.find(b"\n") + 1
        if not end:
            raise PickleError("a name without an end")
        self._file.seek(start + end)
        return line[:end]


def interpret(
    file: Any,
    known: Globals,
    *,
    longest: int,
    persistent: Callable[[Any], Any] | None = None,
    integer_keys: bool = False,
) -> Any:
    """Interprets one pickle.

    Args:
      file: a seekable binary file or memory map, at the pickle's first byte; it is left after
        the last one.
      known: the globals that may be named.
      longest: the most bytes that the pickle, and all text that it gives to calls, may have.
      persistent: what stands for a persistent id; None refuses them.
      integer_keys: whether dicts may have small integers for keys, beside text.

    Returns:
      What was pickled. Containers can be shared, and lists hold themselves.

    Raises:
      PickleError: for what is not allowed, by name.
      malformed: one of these errors, for what no pickle writes.
    """
    with warnings.catch_warnings():
        # Of an unknown escape in text of the first protocol, which is refused as all of its text.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _interpret(file, known, longest, persistent, integer_keys)


def _interpret(
    file: Any,
    known: Globals,
    longest: int,
    persistent: Callable[[Any], Any] | None,
    integer_keys: bool,
) -> Any:
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

    def pop() -> Any:
        if stack[-1] is _MARK:
            raise PickleError("a mark where a value belongs")
        return stack.pop()

    def key(value: Any) -> Any:
        # Small integers: large ones can be chosen to collide.
        small = integer_keys and type(value) is int and abs(value) < 2**31
        return value if small else _expect(value, str)

    argument: Any
    given = 0
    limited: Any = Limited(file, longest, "a pickle")
    for count, (opcode, argument, _) in enumerate(pickletools.genops(limited)):
        name = opcode.name
        if count > MAX_OPCODES:
            raise PickleError(f"more than {MAX_OPCODES:,} instructions")
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
            size = _TUPLES[name]
            items = tuple(stack[-size:])
            if len(items) < size or any(item is _MARK for item in items):
                raise PickleError("a tuple of missing values")
            del stack[-size:]
            stack.append(items)
        elif name == "APPEND":
            item = pop()
            _expect(stack[-1], list).append(item)
        elif name == "APPENDS":
            items_to_add = pop_to_mark()
            _expect(stack[-1], list).extend(items_to_add)
        elif name == "SETITEM":
            value, setting = pop(), pop()
            _expect(stack[-1], dict)[key(setting)] = value
        elif name == "SETITEMS":
            pairs = pop_to_mark()
            target = _expect(stack[-1], dict)
            for setting, value in zip(pairs[::2], pairs[1::2], strict=True):
                target[key(setting)] = value
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                attribute, module = _expect(pop(), str), _expect(pop(), str)
                argument = f"{module} {attribute}"
            if argument not in known:
                raise ReferenceRefusedError(f"a reference to {argument.replace(' ', '.')[:200]!r}")
            stack.append(known[argument])
        elif name == "REDUCE":
            arguments, function = _expect(pop(), tuple), _expect(pop(), Rebuild)
            if len(arguments) > _MAX_ARGUMENTS:
                raise PickleError(f"a call with {len(arguments):,} arguments")
            # Calls may copy text, and a few bytes can give the same text to many.
            given += sum(len(each) for each in arguments if isinstance(each, (str, bytes)))
            if given > longest:
                raise PickleError(f"calls with more than {longest:,} bytes of text")
            stack.append(function.call(*arguments))
        elif name == "BUILD":
            state, built = pop(), stack[-1]
            if type(built) is dict:
                # An ordered dict with attributes, as state dicts have; they are not needed.
                continue
            if not isinstance(built, Made):
                raise PickleError(f"a state for a {type(built).__name__}")
            built.build(state)
        elif name == "BINPERSID" and persistent is not None:
            stack.append(persistent(pop()))
        elif name in ("PROTO", "FRAME"):
            continue
        elif name == "STOP":
            break
        else:
            raise PickleError(f"the opcode {name}")
    if len(stack) != 1:
        raise PickleError(f"{len(stack)} values instead of one")
    return pop()


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise PickleError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value
