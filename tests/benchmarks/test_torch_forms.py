"""The peers in PyTorch that ours are timed against compute the same distance."""

from functools import cache

import jax
import numpy as np
import pytest
import torch

import perceptual_jax as pj
from benchmarks import torch_forms, torch_packages
from benchmarks.ours import images

pytestmark = pytest.mark.usefixtures("weights_store")


def pair(name):
    # The exact kernel means take time quadratic in the pixels; networks need some.
    x, y = images(2, 32 if name.startswith(("mmd(", "mmd-m")) else 64)
    return x, 0.5 * x + 0.5 * y


@cache
def ours(name):
    distance = pj.make(name)
    return np.asarray(distance(distance.init(jax.random.key(0)), *pair(name)))


def assert_ours(name, function, rtol):
    with torch.no_grad():
        got = function(*map(torch_forms.tensor, pair(name)))
    np.testing.assert_allclose(got, ours(name), rtol=rtol)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", torch_forms.DISTANCES)
def test_torch_forms_are_ours(name, layout):
    torch.manual_seed(0)
    assert_ours(
        name, torch_forms.DISTANCES[name](layout), 0.1 if name in torch_forms.DRAWN else 1e-5
    )


@pytest.mark.parametrize(
    ("name", "package"),
    [(name, package) for name, found in torch_packages.PACKAGES.items() for package in found],
)
def test_packages_are_ours(name, package):
    function = torch_packages.PACKAGES[name][package]()
    if function is None:
        pytest.skip(f"{package} is not installed")
    assert_ours(name, function, 1e-5)
