"""The weight store: what is read is what the manifest says, or an error that says what to do."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import perceptual_jax as pj
from perceptual_jax import weights
from perceptual_jax.backbones import BACKBONES
from perceptual_jax.distances import lpips
from perceptual_jax.weights import WeightsError


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def alexnet(weights_store) -> dict[str, np.ndarray]:
    """AlexNet's tensors as a file holds them."""
    return safetensors.numpy.load_file(weights.find("alexnet"))


@pytest.fixture(scope="module")
def origin(weights_store) -> dict[str, str]:
    """What its file says of where they come from."""
    return weights.provenance("alexnet")._asdict()


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
    """Every set has a source, which a checksum tells, and a licence."""
    entry = weights.entry(name)
    assert entry.package or entry.download
    if entry.package:
        assert all(entry.package)
        assert len(entry.package.sha256) == 64
        assert len(entry.sha256) == 64
    if entry.download:
        assert entry.download.url.startswith("https://download.pytorch.org/models/")
        assert entry.download.url.endswith(f"-{entry.download.sha256}.pth")
    assert entry.licence
    assert entry.origin
    assert entry.shapes


@pytest.mark.parametrize("network", BACKBONES.values(), ids=BACKBONES)
def test_the_manifest_has_the_layers_of_the_networks(network):
    """In their order, for the features and for the classifier."""
    for name, convolutions in (
        (network.name, network.convolutions),
        (f"{network.name}-classifier", network.classifier_convolutions),
    ):
        if not convolutions:
            assert name not in weights.names()
            continue
        shapes = {}
        for layer in convolutions:
            shapes[f"{layer.name}.kernel"] = layer.kernel_shape
            shapes[f"{layer.name}.bias"] = (layer.outputs,)
        assert list(weights.entry(name).shapes.items()) == list(shapes.items())


@pytest.mark.parametrize("version", ["0.0", "0.1"])
@pytest.mark.parametrize("net", lpips.LAYERS)
def test_the_manifest_has_the_layers_of_lpips(net, version):
    """A head for every layer of `lpips.LAYERS`, one weight a channel."""
    backbone, layers = lpips.LAYERS[net]
    params = jax.eval_shape(BACKBONES[backbone].random_params, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    found = jax.eval_shape(lambda p, x: BACKBONES[backbone].features(p, x, layers), params, images)
    shapes = {f"{layer}.kernel": (1, 1, found[layer].shape[-1], 1) for layer in layers}
    assert dict(weights.entry(f"lpips-{net}-v{version}").shapes) == shapes


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
        weights.read("vgg-16")


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
def test_wrong_tensors_are_not_read(wrong, alexnet, origin, empty_store):
    damage, message = WRONG[wrong]
    put(empty_store, safetensors.numpy.save(damage(alexnet), origin))
    with pytest.raises(WeightsError, match=message) as caught:
        weights.read("alexnet")
    assert "perceptual-jax weights get alexnet" in str(caught.value)


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_tensors_are_not_written(wrong, alexnet, empty_store):
    damage, message = WRONG[wrong]
    with pytest.raises(WeightsError, match=message):
        weights.write("alexnet", damage(alexnet), "somewhere", "0" * 64)
    assert not [path for path in empty_store.rglob("*") if path.is_file()]


def test_other_tensors_of_unknown_origin_are_not_read(alexnet, origin, empty_store):
    """Sound in themselves, with a checksum of their own; but not those that the manifest knows."""
    other = one_value_changed(alexnet)
    strange = {**origin, "sha256": weights.checksum(other), "source_sha256": "0" * 64}
    put(empty_store, safetensors.numpy.save(other, strange))
    with pytest.raises(WeightsError, match="neither their checksum nor that file's"):
        weights.read("alexnet")


def test_other_tensors_from_a_source_of_the_manifest_are_read(alexnet, empty_store):
    """torchvision's own file may differ in the last bit from what the package made of it."""
    other = one_value_changed(alexnet)
    source = weights.entry("alexnet").download.sha256 + "0" * 56
    weights.write("alexnet", other, "alexnet.pth", source)
    np.testing.assert_array_equal(
        weights.read("alexnet")["conv3"]["kernel"], other["conv3.kernel"], strict=True
    )


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"sha256": ""}])
def test_tensors_of_no_origin_are_not_read(metadata, alexnet, empty_store):
    put(empty_store, safetensors.numpy.save(alexnet, metadata))
    with pytest.raises(WeightsError, match="does not say where its tensors come from"):
        weights.read("alexnet")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_not_written(value, empty_store):
    shapes = weights.entry("squeezenet1_1-classifier").shapes
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tensors["conv10.bias"][17] = value
    with pytest.raises(WeightsError, match=r"conv10\.bias holds values that are not finite"):
        weights.write("squeezenet1_1-classifier", tensors, "somewhere", "0" * 64)
    tensors["conv10.bias"][17] = 3e38  # Its square is not finite, and it is.
    assert weights.write("squeezenet1_1-classifier", tensors, "somewhere", "0" * 64).is_file()


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
def test_damaged_files_are_not_read(damage, alexnet, origin, empty_store):
    put(empty_store, damage(safetensors.numpy.save(alexnet, origin)))
    with pytest.raises(WeightsError, match="perceptual-jax weights get alexnet"):
        weights.read("alexnet")


def test_one_network_under_anothers_name(alexnet, origin, empty_store):
    put(empty_store, safetensors.numpy.save(alexnet, origin), "vgg16")
    with pytest.raises(WeightsError, match="not the weights 'vgg16'"):
        weights.read("vgg16")


def test_one_set_under_anothers_name(weights_store, tmp_path):
    """Of the same names and shapes, so that only the file itself can tell."""
    path = weights.find("lpips-vgg-v0.0")
    assert weights.read_file(path, "lpips-vgg-v0.0")
    assert weights.read_file(path)
    with pytest.raises(WeightsError, match=r"not the weights 'lpips-vgg-v0\.1' but 'lpips-vgg-v0"):
        weights.read_file(path, "lpips-vgg-v0.1")


def test_written_weights_read_back(alexnet, empty_store):
    path = weights.write("alexnet", alexnet, "somewhere", "0" * 64)
    assert path == weights.find("alexnet") == empty_store / "weights" / "alexnet.safetensors"
    np.testing.assert_array_equal(weights.read("alexnet")["conv1"]["bias"], alexnet["conv1.bias"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_says_where_its_tensors_come_from(alexnet, empty_store, tmp_path):
    """The same is returned, stands in the file, and is what any reader of safetensors finds."""
    path = tmp_path / "mine.safetensors"
    told = weights.write_file(path, "alexnet", alexnet, "my.pth", "ab" * 32)
    assert told == weights.Provenance(
        weight_set="alexnet",
        source="my.pth",
        source_sha256="ab" * 32,
        licence="unknown",
        converter=f"perceptual-jax {pj.__version__}",
        sha256=weights.checksum(alexnet),
    )
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == told._asdict()
    params, found = weights.read_file(path, "alexnet")
    assert found == told
    assert list(params) == [f"conv{i}" for i in range(1, 6)]
    for name, tensor in safetensors.numpy.load_file(path).items():
        np.testing.assert_array_equal(tensor, alexnet[name], strict=True)


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
