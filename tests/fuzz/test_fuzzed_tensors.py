"""Weights, networks, arrays and checkpoints, damaged in every way: read, or one line that says why.

The files of PyTorch have two thousand cases of their own in `tests/conversion`, in a process of
little memory; here are many more, of damage alone.
"""

import gc
import io
import json
import pickle
import random
import shutil
import struct
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import perceptual_jax as pj
from conversion import numpy_pickles, torch_files
from conversion.state_dicts import open_file
from experiments.common import checkpoint, network_files
from experiments.common.arrays import read_array, read_arrays
from experiments.inpaint.networks import KIND as INPAINT
from perceptual_jax import weights
from perceptual_jax.distances.learned import Learned, read_learned, write_learned
from tests.conversion.crafted import file, push, tensor
from tests.fuzz.bounds import watched
from tests.fuzz.damage import HOSTILE_TEXT, altered, damaged

pytestmark = pytest.mark.slow


# --- safetensors ---------------------------------------------------------------------------


def altered_header(data: bytes, rng: random.Random) -> bytes:
    """The header of a safetensors file with other values, its length right; or damaged bytes."""
    if rng.random() < 0.4:
        return damaged(data, rng)
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    told = header.get("__metadata__", {})
    if told and rng.random() < 0.6:
        key = rng.choice(list(told))
        told[key] = rng.choice([*HOSTILE_TEXT, altered(told[key], rng), str(rng.randrange(99))])
        text = json.dumps(header)
    else:
        text = altered(header, rng)
    body = text.encode(errors="surrogatepass")
    return struct.pack("<Q", len(body)) + body + data[8 + length :]


def run_safetensors(cases, path, sound, read, count, seed):
    """`read` of the file with its header altered; every fourth time, as it is."""
    rng = random.Random(seed)
    for number in range(count):
        data = altered_header(sound, rng) if number % 4 else sound
        path.write_bytes(data)
        cases.run(read, data, str(path))


def test_our_weights(tmp_path):
    """Those of a shipped head: wherever they come from, their checksum must be right."""
    name = "lpips-alex-v0.1"
    count = 6_000
    path = tmp_path / "weights.safetensors"
    sound = weights.find(name).read_bytes()
    with watched(tmp_path) as cases:
        run_safetensors(cases, path, sound, lambda: weights.read_file(path, name), count, 0)
    cases.check(count)


def test_others_weights(tmp_path):
    """Other people's names of them, as safetensors."""
    name = "lpips-alex-v0.1"
    count = 4_000
    path = tmp_path / "weights.safetensors"
    heads = {
        f"lin{i}.model.1.weight": np.full((1, channels, 1, 1), 0.5, np.float32)
        for i, channels in enumerate((64, 192, 384, 256, 256))
    }
    sound = safetensors.numpy.save(heads)

    def read():
        found = open_file(path, name)
        return [found[key] for key in found]

    with watched(tmp_path) as cases:
        run_safetensors(cases, path, sound, read, count, 1)
    cases.check(count)


def test_learned_distances(tmp_path):
    """What is read, can be made, or is refused as one with another trunk would be."""
    count = 5_000
    path = tmp_path / "metric.safetensors"
    heads = {layer: np.full(3, 0.5, np.float32) for layer in ("relu1_2", "relu2_2")}
    trunk = "vgg16-random(layers=('relu1_2','relu2_2'),metric='l2')"
    write_learned(
        path, Learned(trunk, heads, {"a": {"b": {"kernel": heads["relu1_2"]}}}, {"a": "b"})
    )
    sound = path.read_bytes()

    def read():
        read_learned(path)
        return pj.make(str(path))

    pj.make(str(path))
    with watched(tmp_path, allowed={"exec"}) as cases:
        run_safetensors(cases, path, sound, read, count, 2)
    cases.check(count)


def test_trained_networks(tmp_path):
    """Those that fill holes: numbers that lie build no huge network."""
    count = 1_500
    kind = INPAINT
    network = kind.build(1, 2)
    params = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32),
        jax.eval_shape(network.init, jax.random.key(0))[0],
    )
    shape = dict(zip(kind.bounds, (1, 2), strict=True))
    network_files.write(tmp_path, kind, network_files.Saved("l1", shape, params))
    (path,) = tmp_path.iterdir()
    sound = path.read_bytes()
    network_files.read(path, kind)
    with watched(tmp_path, allowed={"exec"}) as cases:
        run_safetensors(cases, path, sound, lambda: network_files.read(path, kind), count, 3)
    cases.check(count)


# --- Pickles and archives ------------------------------------------------------------------


def torch_seeds() -> list[tuple[str, bytes]]:
    body = b"}(" + push("epoch") + push(3)
    found = []
    for form in ("zip", "legacy"):
        inside = push("a.weight") + tensor(form, (2, 2), (2, 1)) + push("b") + push([1, "c"])
        found.append((f"{form}.pth", file(form, body + inside + b"u")))
    arrays = {"a": np.arange(6, dtype=np.float32), "b": [np.ones(2), 1, "text"], "c": {"d": None}}
    found += [(f"protocol {p}.pkl", pickle.dumps(arrays, p)) for p in (2, 3, 4, 5)]
    return found


def values(tree):
    """All tensors, read."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [values(item) for item in tree]
    return tree.read() if hasattr(tree, "rows") and tree.shape else tree


def test_pickles(tmp_path):
    """Damaged once to three times; nothing that they name is imported."""
    rng = random.Random(4)
    count = 10_000
    seeds = torch_seeds()
    with watched(tmp_path) as cases, warnings.catch_warnings():
        for number in range(count):
            name, data = seeds[number % len(seeds)]
            for _ in range(number // len(seeds) % 3):
                data = damaged(data, rng) or b"\0"
            path = tmp_path / name
            path.write_bytes(data)
            read = numpy_pickles.read_arrays if path.suffix == ".pkl" else torch_files.read
            cases.run(lambda path=path, read=read: values(read(path)), (name, data), str(path))
    cases.check(count)


# --- NumPy's files -------------------------------------------------------------------------


def saved(save, *arrays, **named) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def test_arrays(tmp_path):
    """NPY and NPZ, those that hold objects among them, and headers that lie about the shape."""
    rng = random.Random(5)
    count = 12_000
    floats, labels = np.arange(6, dtype=np.float32), np.zeros((2, 3), np.int32)
    seeds = [
        ("a.npy", saved(np.save, floats)),
        ("b.npy", saved(np.save, np.asfortranarray(labels))),
        ("objects.npy", saved(np.save, np.array([{}, None], dtype=object))),
        ("fields.npy", saved(np.save, np.zeros(2, [("a", "<f4"), ("b", "<i8", (2,))]))),
        ("a.npz", saved(np.savez, labels=labels, inertia=floats)),
        ("b.npz", saved(np.savez_compressed, labels=labels, inertia=floats)),
    ]
    shapes = [b"(6,)", b"(600000000000,)", b"(-6,)", b"(6,)*9", b"6", b"((6,),)", b"(6, 10**9)"]
    with watched(tmp_path) as cases:
        for number in range(count):
            name, data = seeds[number % len(seeds)]
            way = number // len(seeds) % 4
            if way == 1:
                data = data.replace(b"(6,)", rng.choice(shapes))
            for _ in range(way):
                data = damaged(data, rng) or b"\0"
            path = tmp_path / name
            path.write_bytes(data)
            read = read_array if path.suffix == ".npy" else read_arrays
            found = cases.run(
                lambda path=path, read=read: read(path, "an array", "make it again"),
                (name, data),
                str(path),
            )
            arrays = found.values() if isinstance(found, dict) else [found]
            if any(array is not None and array.dtype.hasobject for array in arrays):
                cases.wrong.append(f"{name}: objects were read")
    cases.check(count)


# --- Checkpoints ---------------------------------------------------------------------------


def restored(folder, like):
    """A state, or None and the message of why not."""
    try:
        return checkpoint.restore(folder, 3, like), ""
    except pj.InputError as error:
        return None, str(error)


# Orbax leaves what it had begun to read when it fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_checkpoints(tmp_path):
    """Folders with bytes flipped, files removed, emptied, renamed or put in the way.

    Every second one lost its checksums before, as if its process was killed just then: there Orbax
    itself reads what is damaged.
    """
    rng = random.Random(6)
    count = 120
    state = {"weights": jnp.arange(6, dtype=jnp.float32), "step": jnp.asarray(3)}
    sound, folder = tmp_path / "sound", tmp_path / "damaged"
    checkpoint.save(sound, 3, state, loss=0.5)
    accepted = refused = 0
    for number in range(count):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound, folder)
        sums = folder / "3" / "crc32.json"
        if number % 2:
            sums.unlink()
        for _ in range(number % 3):
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            if not files:
                break
            path, way = rng.choice(files), rng.random()
            data = path.read_bytes()
            if way < 0.6 and data:
                path.write_bytes(damaged(data, rng))
            elif way < 0.7:
                path.unlink()
            elif way < 0.8:
                path.write_bytes(b"")
            elif way < 0.9:
                path.rename(path.with_name("another"))
            else:
                path.unlink()
                path.mkdir()
        checkpoint.best_step(folder)
        assert checkpoint.latest_step(folder) == 3
        found, message = restored(folder, state)
        if found is None:
            refused += 1
            assert str(folder / "3") in message
            assert message.isprintable()
        else:
            accepted += 1
            assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, state)
            if sums.is_file():
                assert jax.tree.all(jax.tree.map(jnp.array_equal, found, state))
    # What was being read when another part failed ends in this test, not in the next one.
    time.sleep(1)
    gc.collect()
    print(f"{count} cases: {accepted} read, {refused} refused")
    assert accepted + refused == count
    assert accepted > 10
    assert refused > 10
