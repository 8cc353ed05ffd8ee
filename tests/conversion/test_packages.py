"""What ships is what the original packages hold, converted: to the last bit."""

import importlib.metadata

import pytest
import safetensors.numpy

from conversion import sources
from conversion.state_dicts import open_file
from perceptual_jax import weights

SHIPPED = [name for name in weights.names() if weights.entry(name).shipped]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_those_of_the_package(name, tmp_path):
    entry = weights.entry(name)
    try:
        version = importlib.metadata.version(entry.package.name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{entry.package.name} is not installed: {entry.package.install}")
    assert version == entry.package.version
    tensors = dict(open_file(sources.installed_file(entry.package), name))
    assert weights.checksum(tensors) == entry.sha256
    shipped = safetensors.numpy.load_file(weights.find(name))
    assert weights.checksum(shipped) == entry.sha256
    found = weights.provenance(name)
    assert found.source_sha256 == entry.package.sha256
    assert found.licence == entry.licence
    assert f"{entry.package.name}=={entry.package.version}" in found.source
