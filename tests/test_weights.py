"""The weight store: what is read is what the manifest says, or an error that says what to do."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import perceptual_jax as pj
from perceptual_jax import weights
from perceptual_jax.weights import WeightsError


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def alexnet(weights_store) -> dict[str, np.ndarray]:
    """AlexNet's tensors as a file holds them."""
    return safetensors.numpy.load_file(weights.find("alexnet"))


def put(store: Path, data: bytes, name: str = "alexnet") -> None:
    (store / "weights").mkdir(exist_ok=True)
    (store / "weights" / f"{name}.safetensors").write_bytes(data)


def test_read_is_nested_and_verified(weights_store):
    params = weights.read("alexnet")
    assert list(params) == [f"conv{i}" for i in range(1, 6)]
    assert params["conv1"]["kernel"].shape == (11, 11, 3, 64)
    assert params["conv1"]["kernel"].dtype == np.float32


@pytest.mark.parametrize("name", [n for n in weights.names() if weights.entry(n).shipped])
def test_shipped_weights_are_sound(name, empty_store):
    """They need no cache."""
    assert weights.read(name)
    assert not list(empty_store.iterdir())


@pytest.mark.parametrize("name", weights.names())
def test_the_manifest_is_complete(name):
    entry = weights.entry(name)
    assert {"package", "version", "file", "sha256"} <= set(entry.source)
    assert entry.licence
    assert entry.shapes


def test_missing_weights_give_the_command(empty_store):
    with pytest.raises(WeightsError, match=r"perceptual-jax weights get vgg16$"):
        weights.read("vgg16")
    assert weights.find("vgg16") is None


@pytest.mark.parametrize("name", ["vgg16", "alexnet", "lpips-alex", "lpips-vgg"])
def test_a_random_network_never_stands_in(name, empty_store):
    """Without the trained weights, `init` raises."""
    with pytest.raises(WeightsError, match="weights get"):
        pj.make(name).init(jax.random.key(0))


def test_unknown_weights():
    with pytest.raises(WeightsError, match="did you mean 'vgg16'"):
        weights.read("vgg61")


def changed(tensors, **changes):
    return {**tensors, **{name.replace("__", "."): value for name, value in changes.items()}}


def one_value_changed(tensors):
    kernel = tensors["conv3.kernel"].copy()
    kernel[1, 1, 5, 7] = np.nextafter(kernel[1, 1, 5, 7], np.float32(np.inf))
    return changed(tensors, conv3__kernel=kernel)


WRONG = {
    "one value": (one_value_changed, "checksum"),
    "shape": (lambda t: changed(t, conv1__bias=t["conv1.bias"][:-1]), r"wanted float32\[64\]"),
    "dtype": (lambda t: changed(t, conv1__bias=t["conv1.bias"].astype(np.float64)), "float64"),
    "extra": (lambda t: changed(t, conv6__bias=np.zeros(1, np.float32)), r"unknown.*conv6\.bias"),
    "missing": (lambda t: {k: v for k, v in t.items() if k != "conv1.bias"}, r"missing.*conv1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_tensors_are_not_read(wrong, alexnet, empty_store):
    damage, message = WRONG[wrong]
    put(empty_store, safetensors.numpy.save(damage(alexnet)))
    with pytest.raises(WeightsError, match=message) as caught:
        weights.read("alexnet")
    assert "perceptual-jax weights get alexnet" in str(caught.value)


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_tensors_are_not_written(wrong, alexnet, empty_store):
    damage, message = WRONG[wrong]
    with pytest.raises(WeightsError, match=message):
        weights.write("alexnet", damage(alexnet))
    assert not list(empty_store.rglob("*"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"not safetensors",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data[:-100] + bytes(100),
    ],
)
def test_damaged_files_are_not_read(damage, alexnet, empty_store):
    put(empty_store, damage(safetensors.numpy.save(alexnet)))
    with pytest.raises(WeightsError, match="perceptual-jax weights get alexnet"):
        weights.read("alexnet")


def test_one_network_under_anothers_name(alexnet, empty_store):
    put(empty_store, safetensors.numpy.save(alexnet), "vgg16")
    with pytest.raises(WeightsError, match="not the weights 'vgg16'"):
        weights.read("vgg16")


def test_written_weights_read_back(alexnet, empty_store):
    path = weights.write("alexnet", alexnet)
    assert path == weights.find("alexnet") == empty_store / "weights" / "alexnet.safetensors"
    np.testing.assert_array_equal(weights.read("alexnet")["conv1"]["bias"], alexnet["conv1.bias"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_where_the_cache_lives(monkeypatch, tmp_path):
    """The variable, then XDG_CACHE_HOME, then ~/.cache."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(weights.CACHE_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert weights.cache_folder() == tmp_path / ".cache" / "perceptual-jax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights.cache_folder() == tmp_path / "xdg" / "perceptual-jax"
    monkeypatch.setenv(weights.CACHE_VARIABLE, "~/mine")
    assert weights.cache_folder() == tmp_path / "mine"


def test_the_checksum_is_of_the_values():
    """Not of the memory layout or byte order; names, shapes and dtypes count."""
    tensor = np.arange(6, dtype=np.float32).reshape(2, 3)
    same = (np.asfortranarray(tensor), tensor.astype(">f4"))
    other = (tensor.reshape(3, 2), tensor.astype(np.float64), tensor + 1)
    assert {weights.checksum({"a": t}) for t in same} == {weights.checksum({"a": tensor})}
    assert weights.checksum({"a": tensor}) not in {weights.checksum({"a": t}) for t in other}
    assert weights.checksum({"a": tensor}) != weights.checksum({"b": tensor})


@pytest.mark.multiprocess
def test_two_processes_fill_the_store_at_once(empty_store):
    """Both succeed, one sound file is left and nothing else."""
    command = [sys.executable, "-c", "import conversion; conversion.get('alexnet')"]
    root = Path(__file__).parent.parent
    running = [subprocess.Popen(command, env=os.environ, cwd=root) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    weights.read("alexnet")
    assert [file.name for file in (empty_store / "weights").iterdir()] == ["alexnet.safetensors"]
