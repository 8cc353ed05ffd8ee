"""PyTorch files are read exactly, in both formats; of what is hostile in them nothing runs."""

import io
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections import OrderedDict

import crafted
import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from conversion import torch_files
from conversion.pickles import PickleError
from conversion.tensors import Tensor

FORMS = crafted.FORMS


def saved(tree, form: str) -> bytes:
    file = io.BytesIO()
    torch.save(tree, file, _use_new_zipfile_serialization=form == "zip")
    return file.getvalue()


@pytest.fixture
def read(tmp_path):
    """`read(bytes)`, through a file."""

    def from_bytes(data: bytes):
        path = tmp_path / "file.pth"
        path.write_bytes(data)
        return torch_files.read(path)

    return from_bytes


@pytest.fixture
def refused(read):
    """`refused(bytes, match)`: opening them is an error of one line that says so."""

    def check(data: bytes, match: str):
        with pytest.raises(PickleError, match=match) as caught:
            read(data)
        assert "is not a PyTorch file that can be read" in str(caught.value)
        assert "\n" not in str(caught.value)

    return check


def values(tensor: torch.Tensor) -> np.ndarray:
    """PyTorch's own values, in NumPy; it knows no bfloat16."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def assert_same(got, wanted) -> None:
    if isinstance(wanted, torch.Tensor):
        wanted = values(wanted)
        assert isinstance(got, Tensor)
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        if got.shape:
            array = got.read()
            assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype)
            assert array.tobytes() == wanted.tobytes()
            middle = array.shape[0] // 2
            np.testing.assert_array_equal(got.rows(middle, array.shape[0]), wanted[middle:])
    elif isinstance(wanted, dict):
        assert list(got) == list(wanted)
        for key in wanted:
            assert_same(got[key], wanted[key])
    elif isinstance(wanted, (list, tuple)):
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other)
    else:
        assert (type(got), got) == (type(wanted), wanted)


def numbers(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 2))


# --- What is read --------------------------------------------------------------------------


BASE = numbers(6, 8)
SHARED = numbers(100)
DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8")

TREES = {
    "state dict": network().state_dict(),
    "parameters": {"weight": nn.Parameter(numbers(3, 2)), "scale": nn.Parameter(numbers(3))},
    **{name: {"x": (numbers(5, 3) * 50).to(getattr(torch, name))} for name in DTYPES},
    "bool": {"x": numbers(7) > 0},
    "transposed": {"x": BASE.T, "y": numbers(2, 3, 4).permute(2, 0, 1)},
    "sliced": {"x": BASE[1::2, 2:7:3], "y": BASE[:, 3]},
    "expanded": {"x": numbers(3, 1).expand(3, 5), "y": numbers(1).expand(4, 2)},
    "views of one storage": {"x": SHARED[:20].view(4, 5), "y": SHARED[10:90:7], "z": SHARED},
    "tied": {"x": BASE, "y": BASE},
    "empty": {"x": torch.zeros(0, 3), "y": torch.zeros(3, 0), "z": BASE[6:], "w": torch.zeros(0)},
    "scalars": {"x": torch.tensor(2.0), "y": torch.tensor(3)},
    "nested": [{"x": (BASE, None, True, 1, -(2**40), 2.5, "text", b"bytes")}, [], (), {}],
    "integer keys": {0: BASE, 7: {"x": 1}},
    "one tensor": BASE,
    "a channels-last image": {"x": numbers(1, 3, 4, 5).to(memory_format=torch.channels_last)},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TREES)
def test_round_trip(read, name, form):
    assert_same(read(saved(TREES[name], form)), TREES[name])


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_checkpoint(read, form):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    plain = {
        "epoch": 12,
        "args": {"lr": 0.1, "name": "net", "sizes": [1, 2], "resume": None},
        "losses": [0.5, 0.25],
    }
    tree = read(
        saved(
            {
                **plain,
                "state_dict": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "best_acc": np.float64(71.5),
                "seen": np.int64(9),
                "mean": np.arange(3.0),
                "size": torch.Size([2, 3]),
                "device": torch.device("cuda", 1),
                "host": torch.device("cpu"),
            },
            form,
        )
    )
    for key, value in plain.items():
        assert_same(tree[key], value)
    assert_same(tree["state_dict"], model.state_dict())
    assert_same(tree["optimizer"]["state"], optimizer.state_dict()["state"])
    assert (tree["best_acc"], tree["seen"]) == (71.5, 9)
    assert (tree["size"], tree["device"], tree["host"]) == ((2, 3), "cuda:1", "cpu")
    assert tree["mean"] is None  # NumPy's arrays are not weights.


@pytest.mark.parametrize("form", FORMS)
def test_ordered_dicts_of_python_2(read, form):
    """It wrote the pairs as an argument; old files of weights are full of them."""
    pairs = crafted.push([["x", 1], ["y", 2]])
    tree = read(crafted.file(form, crafted.call("collections OrderedDict", pairs), {}))
    assert tree == {"x": 1, "y": 2}


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_tensor_may_be_anywhere(read, form):
    """Whatever the offset and strides are, no value is reached."""
    body = crafted.tensor(form, (0, 5), (2**62, 2**62), offset=2**62)
    array = read(crafted.file(form, body)).read()
    assert (array.shape, array.dtype) == ((0, 5), np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_a_stride_to_one_value_may_be_anything(read, form):
    body = crafted.tensor(form, (1, 2), (2**62, 1), offset=1)
    data = np.arange(4, dtype=np.float32)
    got = read(crafted.file(form, body, {"0": data.tobytes()})).read()
    np.testing.assert_array_equal(got, data[None, 1:3])


def test_legacy_views_of_storages(read):
    """As PyTorch before 0.4 wrote them: an offset and a size within a root storage."""
    body = crafted.tensor("legacy", (2,), (1,), offset=1, view=("view", 1, 3))
    data = np.arange(4, dtype=np.float32)
    got = read(crafted.file("legacy", body, {"0": data.tobytes()})).read()
    np.testing.assert_array_equal(got, data[2:4])


def test_what_is_read_outlives_the_file(tmp_path):
    path = tmp_path / "file.pth"
    path.write_bytes(saved({"x": BASE}, "zip"))
    array = torch_files.read(path)["x"].read()
    path.unlink()
    np.testing.assert_array_equal(array, BASE.numpy())


@pytest.mark.parametrize("form", FORMS)
def test_is_torch_file(tmp_path, form):
    path = tmp_path / "file"
    path.write_bytes(saved(BASE, form))
    assert torch_files.is_torch_file(path)
    path.write_bytes(b"\x80\x04\x95 a pickle of today")
    assert not torch_files.is_torch_file(path)


# --- What is refused -----------------------------------------------------------------------


def test_big_endian(refused):
    body = crafted.tensor("zip", (4,), (1,))
    entries = crafted.entries(crafted.file("zip", body)) | {"a/byteorder": b"big"}
    refused(crafted.archive(entries.items()), "byte order")
    program = b"\x80\x02" + crafted.tensor("legacy", (4,), (1,)) + b"."
    refused(crafted.legacy_file(program, {"0": bytes(16)}, little=False), "byte order")


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_module(refused, form):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = saved(network(), form)
    refused(data, r"a reference to 'torch\.nn\.modules\.container\.Sequential'")


@pytest.mark.parametrize("compiled", [torch.jit.script, lambda net: torch.jit.trace(net, BASE)])
def test_torchscript(refused, compiled):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(compiled(nn.Linear(8, 2)), file)
    refused(file.getvalue(), r"TorchScript program; save its state_dict\(\)")


def small(**changed) -> bytes:
    """A file of today of one tensor; with entries changed, or dropped by None."""
    entries = crafted.entries(saved({"x": BASE}, "zip"))
    (root,) = {name.split("/")[0] for name in entries}
    for name, data in changed.items():
        entries[f"{root}/{name}"] = data
    return crafted.archive((name, data) for name, data in entries.items() if data is not None)


def test_changed_entries(read, refused):
    assert_same(read(small()), {"x": BASE})
    refused(small(**{"data/0": None}), r"without the entry '\w+/data/0'")
    refused(small(**{"data/0": bytes(4)}), "a storage '0' of 4 bytes for 48 values")
    refused(small(**{"data/0": bytes(200)}), "a storage '0' of 200 bytes for 48 values")
    refused(small(**{"data.pkl": None}), r"without a data\.pkl")
    refused(small(**{"data.pkl": bytes(2**24 + 1)}), r"data\.pkl of 16,777,217 bytes")
    refused(small(**{"other/data.pkl": b""}), r"without a data\.pkl")


def test_compressed_entries(refused):
    entries = crafted.entries(small())
    refused(crafted.archive(entries.items(), zipfile.ZIP_DEFLATED), "compressed or encrypted")


def test_duplicate_entries(refused):
    entries = list(crafted.entries(small()).items())
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = crafted.archive([*entries, entries[-1]])
    refused(data, "two entries of one name")


TENSORS = {
    "beyond": ((5,), (1,), 0, "in a storage of 4 values"),
    "an offset beyond": ((2,), (1,), 3, "in a storage of 4 values"),
    "strides beyond": ((2, 2), (3, 1), 0, "in a storage of 4 values"),
    "an overflow": ((2**62, 4), (2**62, 1), 0, "in a storage of 4 values"),
    "a negative side": ((-1,), (1,), 0, "not made of"),
    "a negative stride": ((2,), (-1,), 1, "not made of"),
    "a negative offset": ((2,), (1,), -1, "not made of"),
    "a float": ((2.0,), (1,), 0, "not made of"),
    "a list": ([2], [1], 0, "not made of"),
    "a bool": ((True,), (1,), 0, "not made of"),
    "fewer strides": ((2, 2), (1,), 0, "not made of"),
    "too many axes": ((1,) * 65, (1,) * 65, 0, "not made of"),
    "a huge number": ((2**2000,), (0,), 0, "not made of"),
    "a huge expansion": ((2**40,), (0,), 0, "larger than its storage"),
    "a huge expansion of nothing": ((0, 2**62, 2**62), (0, 0, 0), 0, "larger than its storage"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TENSORS)
def test_impossible_tensors(refused, name, form):
    shape, strides, offset, match = TENSORS[name]
    refused(crafted.file(form, crafted.tensor(form, shape, strides, offset)), match)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [-1, 2**80, "4", 4.0, None, (4,)])
def test_impossible_storages(refused, count, form):
    body = crafted.tensor(form, (0,), (1,), count=count)
    refused(crafted.file(form, body), "number of values is not one")


def test_impossible_legacy_storages(refused):
    def check(match, body, storages=None):
        refused(crafted.file("legacy", body, storages), match)

    tensor = crafted.tensor("legacy", (4,), (1,))
    check("malformed", tensor, {"1": bytes(16)})
    check("cut short or not of its size", tensor, {"0": bytes(20)})
    check("storages missing", tensor, {})
    check("a view beyond", crafted.tensor("legacy", (1,), (1,), view=("v", 2, 3)))
    check("a view beyond", crafted.tensor("legacy", (1,), (1,), view=("v", -1, 2)))
    larger = crafted.tensor("legacy", (2**40,), (1,), count=2**40)
    check("of two sizes or dtypes", b"](" + tensor + larger + b"e")
    refused(crafted.file("legacy", tensor) + b"more", "bytes after the last one")
    shown = crafted.file("legacy", tensor).replace(b"]q\x00X\x01\x00\x00\x000q\x01a", b"K\x01")
    refused(shown, "not one of names")


@pytest.mark.parametrize("form", FORMS)
def test_truncated(refused, form):
    data = saved({"x": BASE}, form)
    for length in range(0, len(data), 7):
        refused(data[:length], ": ")
    refused(data[:-1], "may be cut short" if form == "zip" else "cut short")


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        made.addfile(tarfile.TarInfo("storages"))
    return file.getvalue()


def test_other_files(refused):
    refused(b"", "nothing")
    refused(tar(), "does not begin as")
    refused(b"these are words", "does not begin as")
    refused(bytes(1000), "does not begin as")
    refused(crafted.archive([("words.txt", b"words")]), r"without a data\.pkl")
    refused(crafted.archive([("a/file.pth", small())]), r"without a data\.pkl")


def test_a_directory_of_very_many_entries(refused):
    names = ((f"a/data/{index:0>400}", b"") for index in range(11_000))
    refused(crafted.archive(names), "a directory that asks for more than 4,194,304 bytes")


def test_a_flipped_bit_of_a_tensor_is_found_when_it_is_read(read):
    first, second = numbers(40), numbers(50) + 1
    data = bytearray(saved({"x": first, "y": second}, "zip"))
    data[data.index(second.numpy().tobytes()) + 7] ^= 16
    tree = read(bytes(data))
    assert_same(tree["x"], first)
    for _ in range(2):
        with pytest.raises(PickleError, match=r"the storage '1' is damaged: its CRC-32 differs"):
            tree["y"].rows(0, 1)


def test_a_flipped_bit_of_the_pickle_is_found(refused):
    entries = crafted.entries(small())
    (program,) = [data for name, data in entries.items() if name.endswith("data.pkl")]
    data = bytearray(small())
    data[data.index(program) + len(program) // 2] ^= 1
    refused(bytes(data), r"a damaged data\.pkl")


# --- What would run ------------------------------------------------------------------------


def hostile(flag) -> dict[str, bytes]:
    """Instructions that would make a file, if anything ran them."""
    push, call = crafted.push, crafted.call
    command, code = push(f"touch {flag}"), push(f"open({str(flag)!r}, 'w')")
    system = call("builtins getattr", call("builtins __import__", push("os")), push("system"))
    inner = crafted.file("legacy", call("posix system", command), {})
    return {
        "os.system": call("os system", command),
        "posix.system": call("posix system", command),
        "subprocess.Popen": call("subprocess Popen", push(["touch", str(flag)])),
        "builtins.eval": call("builtins eval", code),
        "__builtin__.eval": call("__builtin__ eval", code),
        "builtins.exec": call("builtins exec", code),
        "builtins.getattr": system + b"(" + command + b"tR",
        "operator.attrgetter": call("operator attrgetter", push("system")),
        "importlib.import_module": call("importlib import_module", push("os")),
        "torch.load": call("torch load", push(str(flag))),
        "torch.storage._load_from_bytes": call(
            "torch.storage _load_from_bytes", crafted.named("_codecs encode"), push(str(inner))
        ),
        "torch._utils._rebuild_tensor_v2.__globals__": crafted.named(
            "torch._utils _rebuild_tensor_v2.__globals__"
        ),
        "numpy.load": call("numpy load", push(str(flag))),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", hostile("flag"))
def test_hostile_globals_are_refused_by_name(refused, tmp_path, name, form):
    flag = tmp_path / "executed"
    body = hostile(flag)[name]
    refused(crafted.file(form, body, {}), f"a reference to {name!r}".replace(".", r"\."))
    assert not flag.exists()


def test_the_hostile_would_run(tmp_path):
    """In a pickle that Python runs, they make the file: the tests above could fail."""
    flag = tmp_path / "executed"
    torch.load(
        io.BytesIO(crafted.file("legacy", hostile(flag)["os.system"], {})), weights_only=False
    )
    assert flag.exists()


@pytest.mark.parametrize("form", FORMS)
def test_other_ways_to_call(refused, tmp_path, form):
    flag = tmp_path / "executed"
    command = crafted.push(f"touch {flag}")
    system = crafted.named("os system")
    others = {
        "INST": b"(" + command + b"ios\nsystem\n",
        "OBJ": b"(" + crafted.named("collections OrderedDict") + command + b"o",
        "NEWOBJ": crafted.named("collections OrderedDict") + b")\x81",
        "a reference": crafted.push("os") + crafted.push("system") + b"\x93",
        "os.system": crafted.call("torch._utils _rebuild_parameter", system),
        "EXT1": b"\x82\x01",
        "a state": crafted.tensor(form, (1,), (1,)) + crafted.push({"__class__": 1}) + b"b",
        "a call with": b"(" * 20 + crafted.named("torch Size") + b"(" + b"N" * 17 + b"tR",
        "a device": crafted.call("torch device", b")" + b"q\x00h\x00\x86" * 40),
        "a size": crafted.call("torch Size", crafted.push([1] * 1000)),
        "an ordered dict": crafted.call("collections OrderedDict", crafted.push({"x": 1})),
        "a parameter": crafted.call("torch._utils _rebuild_parameter", crafted.push({"x": 1})),
        "a persistent id": b"(" + b"N" * (5 if form == "zip" else 6) + b"tQ",
    }
    for said, body in others.items():
        refused(crafted.file(form, body), said)
    assert not flag.exists()


def test_pairs_are_used_once(read):
    """Otherwise a few bytes could make very many large dicts."""
    once = crafted.call("collections OrderedDict", crafted.push([["x", 1]]) + b"q\x63")
    again = crafted.call("collections OrderedDict", b"h\x63")
    assert read(crafted.file("zip", b"](" + once + again + b"e", {})) == [{"x": 1}, {}]


# --- Memory --------------------------------------------------------------------------------


PEAK = """
import resource, sys
from conversion import torch_files

def peak():  # In KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
tree = torch_files.read(sys.argv[1])
opened = peak()
assert tree["small"].read().sum() == 6
small = peak()
assert tree["large"].rows(0, 10).shape == (10, 1024)
print(opened - before, small - opened, peak() - small)
"""


@pytest.mark.parametrize("form", FORMS)
def test_memory_is_that_of_what_is_read(tmp_path, form):
    """Of a file of 128 MB; its large tensor is read as well, to be compared with its CRC-32."""
    path = tmp_path / "large.pth"
    tree = OrderedDict(large=torch.zeros(32 * 1024, 1024), small=torch.arange(4.0))
    torch.save(tree, path, _use_new_zipfile_serialization=form == "zip")
    assert path.stat().st_size > 2**27
    done = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    opened, small, large = (int(each) / 1024 for each in done.stdout.split())
    assert opened < 8
    assert small < 8
    assert large < 64
