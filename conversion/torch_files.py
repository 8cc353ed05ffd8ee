"""Reads what `torch.save` wrote, without PyTorch and without running it.

A file of today is a ZIP archive of `data.pkl`, a pickle that says how to rebuild the tensors,
and of one entry for the bytes of each storage; before PyTorch 1.6 it was a sequence of pickles
followed by the storages. Both are memory-mapped: tensors cost nothing until they are read. The
pickles are interpreted, not run: they may name the functions that rebuild tensors, and no other.
"""

from __future__ import annotations

import io
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from conversion.numpy_pickles import NUMPY_GLOBALS
from conversion.pickles import (
    MAX_DEPTH,
    Globals,
    Limited,
    Made,
    PickleError,
    Rebuild,
    ReferenceRefusedError,
    are_counts,
    interpret,
    malformed,
    one_line,
)
from conversion.tensors import Tensor

__all__ = ["is_torch_file", "read"]

_LONGEST = 2**24  # Names, scalars and lists of keys; tensors are not inside the pickles.
_LONGEST_HEADER = 2**12  # Of a file of old: a number, another, and a dict of the machine's sizes.
_MAX_DIRECTORY = 2**22  # Of a ZIP archive: some 40,000 entries.
_MAX_REPEATED = 2**26  # Bytes of a tensor that has each value many times, by strides of 0.
_BLOCK = 2**24

_ZIP = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_STORAGES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class _Storage(NamedTuple):
    """The values that tensors are views of."""

    dtype: np.dtype
    key: str
    start: int
    length: int


class _View(Made):
    """A tensor in the making: which values of which storage."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any):
        if type(storage) is not _Storage:
            raise PickleError("a tensor without a storage")
        if not (
            are_counts(shape)
            and are_counts(strides)
            and are_counts((offset,))
            and len(shape) == len(strides)
        ):
            raise PickleError("a tensor that is not made of (storage, offset, shape, strides)")
        last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if 0 not in shape and offset + last >= storage.length:
            raise PickleError(
                f"a tensor of shape {shape}, strides {strides} and offset {offset} in a storage "
                f"of {storage.length} values"
            )
        # Of empty tensors, the other sides: NumPy wants their product to be small as well.
        size = math.prod(max(side, 1) for side in shape)
        if size > storage.length and size * storage.dtype.itemsize > _MAX_REPEATED:
            raise PickleError(
                f"a tensor of shape {shape}, larger than its storage of {storage.length} values "
                f"and than {_MAX_REPEATED:,} bytes"
            )
        self.storage = storage
        # Nothing is reached by an offset to no values, nor by a stride to one; both may be huge.
        self.offset = 0 if 0 in shape else offset
        self.shape = shape
        self.strides = tuple(
            stride if side > 1 and 0 not in shape else 0
            for side, stride in zip(shape, strides, strict=True)
        )


def _ordered_dict(pairs: Any = None) -> dict:
    """From pairs, as Python 2 wrote it."""
    if pairs is None:
        return {}
    if type(pairs) is not list:
        raise PickleError("an ordered dict that is not made of pairs")
    if not all(isinstance(pair, (list, tuple)) and isinstance(pair[0], str) for pair in pairs):
        raise PickleError("an ordered dict whose keys are not text")
    made = dict(pairs)
    pairs.clear()  # A few bytes could make many dicts of the same pairs.
    return made


def _size(sides: Any = ()) -> tuple[int, ...]:
    if not are_counts(sides):
        raise PickleError("a size that is not a tuple of sides")
    return sides


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or len(kind) > 100 or not (index is None or are_counts((index,))):
        raise PickleError("a device that is not made of (kind, index)")
    return kind if index is None else f"{kind}:{index}"


def _parameter(data: Any, *_: Any) -> _View:
    if not isinstance(data, _View):
        raise PickleError("a parameter that is not a tensor")
    return data


_GLOBALS: Globals = {
    **NUMPY_GLOBALS,
    **{f"torch {name}": dtype for name, dtype in _STORAGES.items()},
    # (storage, offset, size, stride, requires_grad, backward_hooks, metadata)
    "torch._utils _rebuild_tensor": Rebuild(_View),
    "torch._utils _rebuild_tensor_v2": Rebuild(
        lambda storage, offset, shape, strides, *_: _View(storage, offset, shape, strides)
    ),
    "torch._utils _rebuild_parameter": Rebuild(_parameter),
    "torch._utils _rebuild_parameter_with_state": Rebuild(_parameter),
    "torch Size": Rebuild(_size),
    "torch device": Rebuild(_device),
    "collections OrderedDict": Rebuild(_ordered_dict),
}


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as those of `torch.save` do."""
    with path.open("rb") as file:
        start = file.read(16)
    return start.startswith(_ZIP) or start[:4] == b"\x80\x02\x8a\x0a"


def read(path: str | Path) -> Any:
    """Reads a file written by `torch.save`.

    Args:
      path: a state dict, or a checkpoint that holds one, in the format of today or in that of
        before PyTorch 1.6.

    Returns:
      What was saved: dicts, lists and tuples of `Tensor`s, numbers and text. Tensors are read
      from the file when they are asked for, which must not change until then; those of the
      format of today are checked against the CRC-32 of their entries.

    Raises:
      PickleError: if the file is malformed, of a big-endian machine, a whole pickled module or a
        TorchScript program, or holds anything but tensors and plain values; the message names
        what it held.
    """
    path = Path(path)
    with _refusals(path):
        if not path.stat().st_size:
            raise PickleError("nothing")
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if mapped[:4] == _ZIP:
            tree, locate = _read_zip(mapped)
        else:
            tree, locate = _read_legacy(mapped)
    return _finished(tree, _Opener(path, mapped, locate))


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except ReferenceRefusedError as error:
        raise PickleError(
            f"{path} is not a PyTorch file that can be read: {one_line(error)}, which is not run; "
            f"save its state_dict() alone"
        ) from None
    except PickleError as error:
        raise PickleError(
            f"{path} is not a PyTorch file that can be read: {one_line(error)}"
        ) from None
    except (*malformed, struct.error, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise PickleError(
            f"{path} is not a PyTorch file that can be read: it is malformed ({one_line(error)})"
        ) from None


# --- The two formats -----------------------------------------------------------------------


class _Span(NamedTuple):
    """Where the bytes of a storage are, and their CRC-32 if the file says it."""

    start: int
    size: int
    crc: int | None


Locate = Callable[[_Storage], _Span]


def _read_zip(mapped: mmap.mmap) -> tuple[Any, Locate]:
    # The directory is read at once, before its entries are listed in memory.
    readable: Any = Limited(mapped, _MAX_DIRECTORY, "an archive with a directory")
    try:
        with zipfile.ZipFile(readable) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise PickleError(
            f"an archive without its directory, so it may be cut short ({error})"
        ) from None
    by_name = {entry.filename: entry for entry in entries}
    if len(by_name) < len(entries):
        raise PickleError("an archive with two entries of one name")
    roots = [name.removesuffix("data.pkl") for name in by_name if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise PickleError("an archive without a data.pkl, so not one that torch.save wrote")
    (root,) = roots
    if any(name.startswith(f"{root}code/") for name in by_name):
        raise PickleError("a TorchScript program; save its state_dict() instead")

    def span(name: str) -> _Span:
        if name not in by_name:
            raise PickleError(f"an archive without the entry {name!r}")
        return _entry_span(mapped, by_name[name])

    if f"{root}byteorder" in by_name:
        start, size, _ = span(f"{root}byteorder")
        _check_order(bytes(mapped[start : start + min(size, 10)]).decode())
    start, size, crc = span(f"{root}data.pkl")
    if size > _LONGEST:
        raise PickleError(f"a data.pkl of {size:,} bytes")
    program = mapped[start : start + size]
    if zlib.crc32(program) != crc:
        raise PickleError("a damaged data.pkl: its CRC-32 differs")

    def persistent(identity: Any) -> _Storage:
        kind, dtype, key, _location, count = identity
        return _storage(kind, dtype, key, count)

    # Of its own bytes: read in place, it could go on in those that follow, which no CRC guards.
    tree = interpret(
        io.BytesIO(program), _GLOBALS, longest=_LONGEST, persistent=persistent, integer_keys=True
    )

    def locate(storage: _Storage) -> _Span:
        found = span(f"{root}data/{storage.key}")
        if found.size != storage.length * storage.dtype.itemsize:
            raise PickleError(
                f"a storage {storage.key!r} of {found.size} bytes for {storage.length} values"
            )
        return found

    return tree, locate


def _entry_span(mapped: mmap.mmap, entry: zipfile.ZipInfo) -> _Span:
    """Where the bytes of an entry are; only entries that are stored as they are."""
    what = f"the entry {entry.filename[:200]!r}"
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise PickleError(f"{what}, compressed or encrypted, as torch.save never writes it")
    if entry.header_offset < 0:
        raise PickleError(f"{what}, which begins before the file")
    signature, name, extra = struct.unpack_from("<4s22xHH", mapped, entry.header_offset)
    start = entry.header_offset + 30 + name + extra
    if signature != _ZIP or entry.file_size != entry.compress_size:
        raise PickleError(f"{what}, damaged: its header is not one")
    if start + entry.file_size > len(mapped):
        raise PickleError(f"{what}, which reaches beyond the end of the file")
    return _Span(start, entry.file_size, entry.CRC)


def _read_legacy(mapped: mmap.mmap) -> tuple[Any, Locate]:
    storages: dict[str, _Storage] = {}

    def header() -> Any:
        return interpret(mapped, {}, longest=_LONGEST_HEADER)

    def persistent(identity: Any) -> _Storage:
        kind, dtype, key, _location, count, view = identity
        root = _storage(kind, dtype, key, count)
        if storages.setdefault(key, root) != root:
            raise PickleError(f"a storage {key!r} of two sizes or dtypes")
        if view is None:
            return root
        _view_key, offset, size = view
        if not (type(offset) is type(size) is int and 0 <= offset <= offset + size <= count):
            raise PickleError("a view beyond its storage")
        return root._replace(start=offset, length=size)

    if mapped[:1] != b"\x80":
        raise PickleError("it does not begin as torch.save's files do")
    if header() != _LEGACY_MAGIC or header() != _LEGACY_PROTOCOL:
        raise PickleError("it does not begin as torch.save's files do")
    _check_order("little" if header().get("little_endian") is True else "big")
    tree = interpret(mapped, _GLOBALS, longest=_LONGEST, persistent=persistent, integer_keys=True)
    keys = interpret(mapped, {}, longest=_LONGEST)
    spans: dict[str, _Span] = {}
    at = mapped.tell()
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise PickleError("a list of storages that is not one of names")
    for key in keys:
        storage = storages[key]
        (count,) = struct.unpack_from("<q", mapped, at)
        size = storage.length * storage.dtype.itemsize
        if count != storage.length or at + 8 + size > len(mapped):
            raise PickleError(f"a storage {key!r} that is cut short or not of its size")
        spans[key] = _Span(at + 8, size, None)
        at += 8 + size
    if set(spans) != set(storages) or at != len(mapped):
        raise PickleError("storages missing, or bytes after the last one")
    return tree, lambda storage: spans[storage.key]


def _storage(kind: Any, dtype: Any, key: Any, count: Any) -> _Storage:
    if kind != "storage" or not isinstance(dtype, np.dtype) or type(key) is not str:
        raise PickleError("a persistent id that is not of a storage")
    if not are_counts((count,)):
        raise PickleError("a storage whose number of values is not one")
    return _Storage(dtype, key, 0, count)


def _check_order(order: str) -> None:
    if order != "little":
        raise PickleError(
            f"it was written on a machine of {order!r} byte order; save it again on a "
            f"little-endian one"
        )


# --- Tensors -------------------------------------------------------------------------------


class _Opener:
    """Makes tensors of views, on the mapped file."""

    def __init__(self, path: Path, mapped: mmap.mmap, locate: Locate):
        self.path = path
        self.mapped = mapped
        self.locate = locate
        self.checked: set[str] = set()

    def open(self, view: _View) -> Tensor:
        storage = view.storage
        with _refusals(self.path):
            span = self.locate(storage)

        def rows(start: int, stop: int) -> np.ndarray:
            self._check(storage.key, span)
            itemsize = storage.dtype.itemsize
            values = np.ndarray(
                view.shape,
                storage.dtype,
                self.mapped,
                offset=span.start + (storage.start + view.offset) * itemsize,
                strides=tuple(stride * itemsize for stride in view.strides),
            )
            read = np.array(values[start:stop])
            del values
            self._let_go()
            return read

        return Tensor(view.shape, storage.dtype, rows)

    def _check(self, key: str, span: _Span) -> None:
        """Compares the bytes of a storage with their CRC-32, once."""
        if span.crc is None or key in self.checked:
            return
        crc = 0
        for start in range(span.start, span.start + span.size, _BLOCK):
            block = self.mapped[start : min(start + _BLOCK, span.start + span.size)]
            crc = zlib.crc32(block, crc)
            self._let_go()
        if crc != span.crc:
            raise PickleError(f"{self.path}: the storage {key!r} is damaged: its CRC-32 differs")
        self.checked.add(key)

    def _let_go(self) -> None:
        """Pages that were read need not stay in memory; the system may have them cached."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


def _finished(
    value: Any, opener: _Opener, depth: int = 0, done: dict[int, Any] | None = None
) -> Any:
    """Replaces views by tensors; what is shared is finished once."""
    done = {} if done is None else done
    if depth > MAX_DEPTH:
        raise PickleError(f"{opener.path} holds containers nested more than {MAX_DEPTH} deep")
    if id(value) in done:
        return done[id(value)]
    result = value
    if isinstance(value, _View):
        result = opener.open(value)
    elif isinstance(value, Mapping):
        result = {key: _finished(item, opener, depth + 1, done) for key, item in value.items()}
    elif type(value) in (list, tuple):
        result = type(value)(_finished(item, opener, depth + 1, done) for item in value)
    elif value is not None and not isinstance(value, (bool, int, float, str, bytes)):
        result = None  # What NumPy, or a bare storage, left in a checkpoint: not weights.
    done[id(value)] = result
    return result
