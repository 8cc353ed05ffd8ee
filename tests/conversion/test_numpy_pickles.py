"""Pickles of arrays are read exactly; of anything else nothing runs."""

import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversion.numpy_pickles import read_arrays
from conversion.pickles import PickleError


@pytest.fixture
def read(tmp_path):
    """`read(bytes)`, through a file."""

    def from_bytes(data: bytes):
        path = tmp_path / "file.pkl"
        path.write_bytes(data)
        return read_arrays(path)

    return from_bytes


def assert_same(got, wanted) -> None:
    assert type(got) is type(wanted)
    if isinstance(wanted, dict):
        assert list(got) == list(wanted)
        got, wanted = list(got.values()), list(wanted.values())
    if isinstance(wanted, (list, tuple)):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, np.ndarray):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)
    else:
        assert got == wanted


ARRAYS = {
    "tree": {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}, "c": [np.ones(2)]},
    "shared": [np.arange(3)] * 2,
    "tuples": (np.zeros(1), (), (np.ones(2), 1, "two", 3.0, None, True, b"bytes")),
    "fortran": np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
    "empty": np.zeros((0, 3), np.float64),
    "scalar array": np.array(7, np.uint8),
    "big endian": np.arange(5, dtype=">f4"),
    "half": np.arange(5, dtype=np.float16),
    "large": np.arange(100_000, dtype=np.float32),
    "negative": [-1, 2**40, -(2**70)],
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ARRAYS)
def test_round_trip(read, name, protocol):
    assert_same(read(pickle.dumps(ARRAYS[name], protocol)), ARRAYS[name])


class Reduced:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Subclass(np.ndarray):
    """An array, and more."""


class Plain:
    """An object with a state: NEWOBJ and BUILD."""

    def __init__(self):
        self.state = 1


def persistent() -> bytes:
    return b"\x80\x04\x8c\x01aQ."


def endless() -> bytes:
    """A tuple of two of the same tuple, forty deep: 2^40 places to print, hash or compare."""
    return b")" + b"q\x00h\x00\x86" * 40


def encode(text: bytes, encoding: bytes) -> bytes:
    """What protocol 2 writes for bytes; each argument is an instruction."""
    return b"\x80\x02c_codecs\nencode\n" + text + encoding + b"\x86R."


HOSTILE = {
    "os.system": lambda flag: pickle.dumps(Reduced(os.system, f"touch {flag}")),
    "eval": lambda flag: pickle.dumps(Reduced(eval, f"open({str(flag)!r}, 'w')")),
    "protocol 0": lambda flag: f"cos\nsystem\n(S'touch {flag}'\ntR.".encode(),
    "inst": lambda flag: f"(S'touch {flag}'\nios\nsystem\n.".encode(),
    "object array": lambda flag: pickle.dumps(
        np.array([Reduced(os.system, f"touch {flag}")], object)
    ),
    "structured array": lambda _: pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "i4")])),
    "text array": lambda _: pickle.dumps(np.array(["text"])),
    "subclass": lambda _: pickle.dumps(np.zeros(2).view(Subclass)),
    "object": lambda _: pickle.dumps(Plain()),
    "set": lambda _: pickle.dumps({1, 2}),
    "persistent id": lambda _: persistent(),
    "extension": lambda _: b"\x80\x02\x82\x01.",
    "dtype alone": lambda _: pickle.dumps(np.dtype("f4")),
    "a global alone": lambda _: pickle.dumps(np.ndarray),
    "integer keys": lambda _: pickle.dumps({1: np.zeros(2)}),
    "array without state": lambda _: b"\x80\x02cnumpy\nndarray\n)R.",
    "out of band": lambda _: pickle.dumps(np.zeros(9), 5, buffer_callback=lambda _buffer: False),
    "list in itself": lambda _: b"\x80\x02]q\x00h\x00a.",
    "nested": lambda _: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "huge length": lambda _: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
    "endless dtype": lambda _: b"\x80\x02cnumpy\ndtype\n" + endless() + b"\x85R.",
    "endless byte order": lambda _: (
        b"\x80\x02cnumpy\ndtype\nU\x02f4\x85RK\x03" + endless() + b"\x86b."
    ),
    "endless global": lambda _: b"\x80\x04" + endless() + b"\x8c\x01a\x93.",
    "endless key": lambda _: b"\x80\x02}" + endless() + b"Ns.",
    "a codec": lambda _: encode(b"U\x01a", b"U\x03hex"),
    "text beyond a codec": lambda _: encode(b"X\x02\x00\x00\x00\xc4\x80", b"U\x06latin1"),
    "many axes": lambda _: pickle.dumps(np.zeros(1)).replace(
        b"K\x01\x85", b"(" + b"K\x01" * 65 + b"t"
    ),
    "text": lambda _: b"this is not a pickle",
    "nothing": lambda _: b"",
    "zeros": lambda _: bytes(100),
    "mark": lambda _: b"\x80\x02(.",
    "two values": lambda _: b"\x80\x02]].",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_and_do_not_run(read, tmp_path, name):
    flag = tmp_path / "executed"
    with pytest.raises(PickleError, match="is not a pickle of arrays"):
        read(HOSTILE[name](flag))
    assert not flag.exists()


SMALL = pickle.dumps({"a": np.arange(3, dtype=np.float32), "b": [np.zeros((2, 0))]}, 4)


def test_truncated_anywhere(read):
    for length in range(len(SMALL)):
        with pytest.raises(PickleError):
            read(SMALL[:length])


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1))
def test_mutated_pickles_raise_nothing_else(tmp_path_factory, changes):
    data = bytearray(SMALL)
    for position, value in changes:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "mutated.pkl"
    path.write_bytes(data)
    try:
        read_arrays(path)
    except PickleError:
        return


def test_too_large_a_file_is_not_read(read, monkeypatch):
    monkeypatch.setattr("conversion.numpy_pickles.MAX_BYTES", 10)
    with pytest.raises(PickleError, match="more than 10"):
        read(SMALL)


def test_the_same_text_is_not_encoded_time_and_again(read):
    text = b"T" + struct.pack("<I", 1000) + b"a" * 1000
    once = encode(text, b"U\x06latin1")
    assert read(once) == b"a" * 1000
    names = b"\x80\x02(c_codecs\nencode\nq\x00" + text + b"q\x01U\x06latin1q\x02"
    with pytest.raises(PickleError, match="bytes of text"):
        read(names + b"h\x00h\x01h\x02\x86R" * 100 + b"l.")


def test_shared_containers_are_finished_once(read):
    """A list of two of the same list, forty deep: 2^40 places, a few hundred bytes."""
    nested = []
    for _ in range(40):
        nested = [nested, nested]
    got = read(pickle.dumps(nested, protocol=4))
    assert got[0] is got[1]
