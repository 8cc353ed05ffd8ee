"""Two thousand damaged and hostile files: each is refused in one line, or read; nothing runs.

They are read in a process of its own, of little memory and time (`hostile_files_child.py`).
"""

import json
import os
import pickle
import random
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import crafted
import hostile_files_child
import numpy as np
import pytest
from crafted import FORMS, call, named, push

COUNT = 2000


class Case(NamedTuple):
    """A file: how it came about, its bytes and its suffix.

    `whole` is the name of the case whose values it must have if it is read at all: that of the
    file before the damage, where checksums find damage.
    """

    name: str
    data: bytes
    suffix: str = ".pth"
    whole: str | None = None


# --- Files to damage -----------------------------------------------------------------------


def sound(form: str) -> bytes:
    """A checkpoint of several tensors, of which some share a storage."""
    data = np.random.default_rng(0).normal(size=40).astype(np.float32)
    body = b"}(" + push("epoch") + push(3)
    body += push("state_dict") + call("collections OrderedDict") + b"("
    body += push("conv.weight") + crafted.tensor(form, (2, 3, 1, 1), (3, 1, 1, 1), count=24)
    body += push("conv.bias") + crafted.tensor(form, (2, 4), (1, 6), 2, count=24)
    body += push("linear.weight") + crafted.tensor(form, (4, 4), (4, 1), key="1", count=16)
    body += b"u" + push("args") + push({"lr": 0.1, "sizes": [1, 2]}) + b"u"
    return crafted.file(form, body, {"0": data[:24].tobytes(), "1": data[24:].tobytes()})


def arrays() -> bytes:
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": [np.ones(2), 1, "text"]}
    return pickle.dumps(tree, 4)


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


def damages(rng: random.Random) -> Iterator[Case]:
    whole = {form: sound(form) for form in FORMS}
    for form in FORMS:
        yield Case(f"whole {form}", whole[form])
    yield Case("whole arrays", arrays(), ".pkl")
    for i in range(500):
        yield Case(f"damaged zip {i}", damaged(whole["zip"], rng), whole="whole zip")
        yield Case(f"damaged legacy {i}", damaged(whole["legacy"], rng))
    for i in range(150):
        yield Case(f"damaged arrays {i}", damaged(arrays(), rng), ".pkl")
    entries = crafted.entries(whole["zip"])
    for i in range(350):
        # A checksum that is right lets damage through to the interpreter.
        program = damaged(entries["a/data.pkl"], rng)
        data = crafted.archive((entries | {"a/data.pkl": program}).items())
        yield Case(f"damaged pickle {i}", data)


# --- Archives ------------------------------------------------------------------------------


def renamed(rng: random.Random) -> Iterator[Case]:
    """Entries under other names, of other archives, twice, or not at all."""
    entries = list(crafted.entries(sound("zip")).items())
    names = [name for name, _ in entries]
    names += ["b/data.pkl", "a/code/x.py", "../data.pkl", "/data.pkl", "a/data/../data.pkl", "a/"]
    names += ["a/data/" + "9" * 1000, "é", "a\n/data.pkl", "data.pkl"]
    for i in range(150):
        changed = list(entries)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(changed))
            changed[at] = (rng.choice(names), changed[at][1])
        if rng.random() < 0.3:
            changed.append((rng.choice(names), sound(rng.choice(FORMS))))
        if rng.random() < 0.3:
            del changed[rng.randrange(len(changed))]
        yield Case(f"renamed {i}", crafted.archive(changed))


DIRECTORY_OF_64_BITS = "<4sQ2H2L4Q"


def directory_of_two_sizes() -> bytes:
    """A large directory whose record of 64 bits has a decoy, of a small one."""
    decoy = struct.pack(DIRECTORY_OF_64_BITS, b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 60, 0)
    data = crafted.archive([("a/decoy", decoy), *((f"a/{i:>9}", b"") for i in range(90_000))])
    (size, start) = struct.unpack_from("<LL", data, data.rindex(b"PK\5\6") + 12)
    data = data[: start + size]
    record = struct.pack(
        DIRECTORY_OF_64_BITS, b"PK\6\6", 44, 45, 45, 0, 0, 90_001, 90_001, size, start
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, data.index(decoy), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2**16 - 1, 2**16 - 1, 60, 0, 0)
    return data + record + locator + end


def archives() -> Iterator[Case]:
    whole = sound("zip")
    entries = list(crafted.entries(whole).items())
    central = whole.index(b"PK\1\2")
    zeros = [("a/data.pkl", bytes(2**26)), ("a/byteorder", b"little")]

    def patched(at: int, form: str, *numbers: int) -> bytes:
        data = bytearray(whole)
        struct.pack_into(form, data, at, *numbers)
        return bytes(data)

    nested = whole
    for _ in range(20):
        nested = crafted.archive([("a/data.pkl", nested), ("a/data/0", nested[:16])])
    many = ((f"a/{i}", b"") for i in range(100_000))
    yield Case("bomb of deflate", crafted.archive(zeros, zipfile.ZIP_DEFLATED))
    yield Case("bomb of lzma", crafted.archive(zeros, zipfile.ZIP_LZMA))
    yield Case(
        "bomb of deflate in a storage",
        crafted.archive([entries[0], ("a/data/0", bytes(2**24))], zipfile.ZIP_DEFLATED),
    )
    yield Case("bomb of a directory", crafted.archive(many))
    yield Case("bomb of a directory of two sizes", directory_of_two_sizes())
    yield Case("nested archives", crafted.archive([("a/file.pth", whole), *entries[1:]]))
    yield Case("archives nested in pickles", nested)
    yield Case("a huge entry", patched(central + 20, "<2L", 2**32 - 2, 2**32 - 2))
    yield Case("a huge offset", patched(central + 42, "<L", 2**32 - 2))
    yield Case("a huge directory", patched(len(whole) - 10, "<L", 2**32 - 2))
    yield Case("a directory before the file", patched(len(whole) - 6, "<L", len(whole)))
    yield Case("an offset before the file", patched(len(whole) - 6, "<L", central + 40))
    yield Case("an encrypted entry", patched(central + 8, "<H", 1))
    yield Case("of a later version", patched(central + 6, "<H", 2**16 - 1))
    yield Case("many disks", patched(len(whole) - 18, "<2H", 5, 5))
    yield Case("a comment", patched(len(whole) - 2, "<H", 2**16 - 1) + bytes(2**16 - 1))
    yield Case("a long comment", whole + bytes(2**17))
    yield Case("only an end", whole[-22:])
    yield Case("two archives", whole + whole, whole="whole zip")
    yield Case("after other bytes", b"PK\3\4" + whole, whole="whole zip")


# --- Pickles -------------------------------------------------------------------------------


def hostile(flag: Path) -> dict[str, bytes]:
    """Instructions that would make a file, if anything ran them."""
    command, code = push(f"touch {flag}"), push(f"open({str(flag)!r}, 'w')")
    system = call("builtins getattr", call("builtins __import__", push("os")), push("system"))
    return {
        "system": call("os system", command),
        "posix": call("posix system", command),
        "popen": call("subprocess Popen", push(["touch", str(flag)])),
        "eval": call("builtins eval", code),
        "exec": call("builtins exec", code),
        "eval of python 2": call("__builtin__ eval", code),
        "getattr": system + b"(" + command + b"tR",
        "inst": b"(" + command + b"ios\nsystem\n",
        "obj": b"(" + named("os system") + command + b"o",
        "newobj": named("subprocess Popen") + b"(" + push(["touch", str(flag)]) + b"t\x81",
        "newobj with names": named("subprocess Popen") + b")}\x92",
        "a global by text": b"\x8c\x05posix\x8c\x06system\x93(" + command + b"tR",
        "a path of attributes": b"\x8c\x05torch\x8c\x09os.system\x93(" + command + b"tR",
        "load": call("torch load", push(str(flag))),
        "a state": call("collections OrderedDict") + push({"__setstate__": 1}) + b"b",
        "huge objects": call("builtins bytearray", push(2**40)),
        "a huge range": call("builtins list", call("builtins range", push(2**40))),
        "a huge power": call("builtins pow", push(10), push(10**9)),
    }


ENDLESS = b")" + b"q\x00h\x00\x86" * 60
"""A tuple of two of the same tuple, sixty deep: 2^60 places to print, hash, compare or copy."""

MILLION = 1_100_000


def bombs(form: str) -> dict[str, bytes]:
    """Instructions that ask for much memory or time."""
    text = b"X" + struct.pack("<L", 2**23) + b"a" * 2**23
    many = b"(" + b"N" * 400_000 + b"tq\x01"
    huge = b"\x8a\xff" + b"\x7f" * 255
    dtype = named("numpy dtype")
    small = crafted.tensor(form, (1,), (1,))

    def stored(count: bytes, key: bytes = push("0")) -> bytes:
        rest = push("cpu") + count + (b"" if form == "zip" else b"N")
        return b"(" + push("storage") + named("torch FloatStorage") + key + rest + b"tQ"

    return {
        "lists": b"]" * MILLION,
        "dicts": b"}" * MILLION,
        "marks": b"(" * MILLION,
        "numbers": b"](" + b"K\x01" * MILLION + b"e",
        "memos": b"]" + b"\x94" * MILLION,
        "nested tuples": b")" + b"\x85" * 900_000,
        "nested lists": b"]" * 400_000 + b"a" * 399_999,
        "a list in itself": b"]q\x00h\x00a",
        "a list in itself often": b"]q\x00(" + b"h\x00" * 100_000 + b"e",
        "a dict in itself": b"}q\x00X\x01\x00\x00\x00ah\x00s",
        "doubling": ENDLESS,
        "doubling lists": b"(]" + b"".join(b"q%c](h%ch%ce" % (i, i, i) for i in range(90)) + b"t",
        "a doubling key": b"}" + ENDLESS + b"Ns",
        "a doubling global": ENDLESS + b"\x8c\x01a\x93",
        "a doubling device": call("torch device", ENDLESS),
        "a doubling size": call("torch Size", ENDLESS),
        "a doubling dtype": dtype + ENDLESS + b"\x85R",
        "a doubling byte order": dtype + b"U\x02f4\x85RK\x03" + ENDLESS + b"\x86b",
        "a doubling encoding": call("_codecs encode", push("a"), ENDLESS),
        "doubling pairs": call("collections OrderedDict", ENDLESS),
        "a doubling count": stored(ENDLESS),
        "a doubling key of a storage": stored(push(4), ENDLESS),
        "a doubling persistent id": ENDLESS + b"Q",
        "a doubling shape": call(
            "torch._utils _rebuild_tensor", stored(push(4)), push(0), ENDLESS, b"h\x00"
        ),
        "a long number": b"\x8b" + struct.pack("<l", 2**31 - 1),
        "a long number of megabytes": b"\x8b" + struct.pack("<L", 2**23) + b"\x7f" * 2**23,
        "a number in digits": b"L" + b"9" * 10_000 + b"L\n",
        "long bytes": b"\x8e" + struct.pack("<Q", 2**62),
        "long text": b"\x8d" + struct.pack("<Q", 2**62),
        "long bytes, of 31 bits": b"B" + struct.pack("<L", 2**31 - 1),
        "negative text": b"T" + struct.pack("<l", -1),
        "a long frame": b"\x95" + struct.pack("<Q", 2**62) + b"N",
        "a far memo": b"(Nr\xff\xff\xff\xffj\xff\xff\xff\xfft",
        "a name without an end": b"c" + b"a" * 100_000,
        "text encoded often": (
            b"](" + text + b"q\x01" + named("_codecs encode") + b"q\x02" + push("latin1")
            + b"q\x03" + b"h\x02h\x01h\x03\x86R" * 1000 + b"e"
        ),
        "text of devices": (
            b"](" + text + b"q\x01" + named("torch device") + b"q\x02" + b"h\x02h\x01\x85R" * 1000
            + b"e"
        ),
        "sizes copied often": (
            b"](]q\x01(" + b"N" * 400_000 + b"e" + named("torch Size") + b"q\x02"
            + b"h\x02h\x01\x85R" * 100_000 + b"e"
        ),
        "pairs copied often": (
            b"](](" + b"".join(push([f"{i}", i]) for i in range(50_000)) + b"eq\x01"
            + named("collections OrderedDict") + b"q\x02" + b"h\x02h\x01\x85R" * 50_000 + b"e"
        ),
        "arguments copied often": (
            b"](" + many + named("numpy ndarray") + b"q\x02" + b"h\x02h\x01R" * 150_000 + b"e"
        ),
        "shapes of many axes": (
            b"](" + many + named("numpy ndarray") + b")Rq\x02"
            + b"h\x02(K\x01h\x01NNNtb" * 50_000 + b"e"
        ),
        "a product of huge sides": crafted.tensor(form, (0,) * 60_000, (0,) * 60_000)
        .replace(b"K\x00", huge, 50_000),
        "many tensors": b"](" + small * 12_000 + b"e",
        "a huge expansion": crafted.tensor(form, (2**31,), (0,)),
        "a huge expansion of three axes": crafted.tensor(form, (2**20,) * 3, (0, 0, 0)),
        "a huge storage": crafted.tensor(form, (2**40,), (1,), count=2**40),
        "a storage of another size": crafted.tensor(form, (2**10,), (1,), count=2**10),
    }  # fmt: skip


def pickles(flag: Path) -> Iterator[Case]:
    for form in FORMS:
        for name, body in (hostile(flag) | bombs(form)).items():
            yield Case(f"{name} in {form}", crafted.file(form, body))
    for name, body in (hostile(flag) | bombs("zip")).items():
        yield Case(f"{name} in arrays", b"\x80\x04" + body + b".", ".pkl")
    memos = b"\x80\x02K\x01" + b"\x94" * 900_000 + b"."
    header = crafted.legacy_file(b"", {})
    yield Case("legacy headers of many instructions", header[:3] + memos[2:] * 4)
    storage = crafted.tensor("legacy", (4,), (1,))
    listed = crafted.file("legacy", storage)
    keys = listed.rindex(b"\x80\x02]")
    for name, body in {"endless": ENDLESS, "in a list": b"]" + ENDLESS + b"a"}.items():
        data = listed[: keys + 2] + body + b"." + listed[-24:]
        yield Case(f"legacy keys, {name}", data)
    yield Case("a legacy storage of a huge count", listed[:-24] + b"\xff" * 7 + b"\x7f" + bytes(16))


def programs(flag: Path, rng: random.Random) -> Iterator[Case]:
    """Instructions at random: most end early, some make strange values."""
    for i in range(400):
        form = rng.choice(FORMS)
        words = [b"(", b"t", b"R", b"b", b"Q", b"]", b"}", b")", b"N", b"e", b"a", b"u", b"s"]
        words += [b"\x85", b"\x86", b"\x87", b"q\x01", b"h\x01", b"\x94", b"\x93", b"0", b"K\x01"]
        words += [push("a"), push((2, 2)), push([["a", 1]]), push(2**70), push(0.5), push("f4")]
        words += [crafted.storage(form), crafted.tensor(form, (2,), (1,)), named("numpy ndarray")]
        words += [named("numpy dtype"), named("_codecs encode"), named("torch Size")]
        words += [named("torch._utils _rebuild_tensor_v2"), named("collections OrderedDict")]
        words += [call("numpy dtype", push("f4")), rng.choice(list(hostile(flag).values()))]
        words += [named("numpy.core.multiarray scalar"), call("numpy ndarray")]
        body = b"".join(rng.choices(words, k=rng.randint(1, 12)))
        if rng.random() < 0.5:
            body = b"](" + body + b"e"
        yield Case(f"program {i}", crafted.file(form, body))


# --- The test ------------------------------------------------------------------------------


def cases(flag: Path) -> Iterator[Case]:
    rng = random.Random(20)
    yield from damages(rng)
    yield from renamed(rng)
    yield from archives()
    yield from pickles(flag)
    yield from programs(flag, rng)


@pytest.mark.slow
def test_hostile_files(tmp_path):
    flag = tmp_path / "executed"
    folder = tmp_path / "files"
    folder.mkdir()
    made: dict[str, Case] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        for number, case in enumerate(cases(flag)):
            name = f"{number:04}{case.suffix}"
            made[name] = case
            (folder / name).write_bytes(case.data)
    assert len(made) >= COUNT

    done = subprocess.run(
        [sys.executable, hostile_files_child.__file__, folder],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    outcomes = {}
    for line in done.stdout.splitlines():
        name, *outcome = json.loads(line)
        outcomes[name] = outcome
    unanswered = [case.name for name, case in made.items() if name not in outcomes]
    assert not unanswered, f"{unanswered[0]!r} ended the process: {done.returncode} {done.stderr}"
    assert not done.stderr
    assert not flag.exists()

    values = {made[name].name: text for name, (kind, text) in outcomes.items() if kind == "read"}
    wrong = []
    for name, (kind, text) in outcomes.items():
        case = made[name]
        if kind == "refused":
            # Out of memory is no answer: the file asked for too much, and began to get it.
            fine = "\n" not in text and len(text) < 2000 and "emory" not in text
            fine &= "llocate" not in text and not case.name.startswith("whole")
        else:
            fine = kind == "read" and (case.whole is None or text == values[case.whole])
        if not fine:
            wrong.append((case.name, kind, text[:300]))
    assert not wrong
    # Some damage leaves a file that can be read, most does not.
    assert 50 < len(values) < len(made) / 2


def test_the_limits_are_felt(tmp_path, monkeypatch):
    """A reader that loops, or fills the memory, would be found."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "0.pth").write_bytes(sound("zip"))

    def child(reader: str) -> subprocess.CompletedProcess:
        script = (
            "import hostile_files_child as child\n"
            "child.SECONDS = 1\n"
            f"child.torch_files.read = {reader}\n"
            f"child.main({str(folder)!r})"
        )
        path = f"{Path(__file__).parent}{os.pathsep}{Path.cwd()}"
        return subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    assert child("lambda path: sum(iter(int, 1))").returncode == -14  # SIGALRM
    assert "MemoryError" in child("lambda path: bytes(2**30)").stdout
