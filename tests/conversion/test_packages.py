"""What ships is what the original packages hold, converted; ours gives what theirs give."""

import importlib.metadata
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import conversion
import perceptual_jax as pj
from conversion import sources
from conversion.state_dicts import open_file
from perceptual_jax import weights

SHIPPED = [name for name in weights.names() if weights.entry(name).shipped]


def need_package(package: weights.Package) -> None:
    try:
        version = importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package.name} is not installed: {package.install}")
    assert version == package.version


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_those_of_the_package(name):
    """To the last bit."""
    entry = weights.entry(name)
    need_package(entry.package)
    tensors = dict(open_file(sources.installed_file(entry.package), name))
    assert weights.checksum(tensors) == entry.sha256
    shipped = safetensors.numpy.load_file(weights.find(name))
    assert weights.checksum(shipped) == entry.sha256
    found = weights.provenance(name)
    assert found.source_sha256 == entry.package.sha256
    assert found.licence == entry.licence
    assert f"{entry.package.name}=={entry.package.version}" in found.source


# Printed by stlpips-pytorch 0.0.2 for the images of `tests/goldens`, 64 x 61 of their pixels.
SHIFT_TOLERANT = {
    "alex": ("alexnet-shift-tolerant", [0.34848902, 0.19731006, 0.04584148, 0.01877997]),
    "vgg": ("vgg16-shift-tolerant", [0.33572704, 0.393091, 0.15207112, 0.047762]),
}


@pytest.mark.parametrize("net", SHIFT_TOLERANT)
def test_shift_tolerant_lpips_is_that_of_the_package(net, tmp_path, monkeypatch):
    backbone, published = SHIFT_TOLERANT[net]
    need_package(weights.entry(backbone).package)
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path))
    conversion.get(backbone)
    images = np.load(Path(__file__).parent.parent / "goldens" / "pairs64.npz")
    x, y = (images[name][:, :, :61] for name in ("x", "y"))
    lpips = pj.make(f"st-lpips-{net}")
    got = lpips(lpips.init(jax.random.key(0)), x, y)
    np.testing.assert_allclose(got, published, rtol=1e-5)
