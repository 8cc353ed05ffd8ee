"""The JAX packages that ours are timed against compute LPIPS, with the same weights."""

import jax
import numpy as np
import pytest

import perceptual_jax as pj
from benchmarks import distances, jax_packages
from benchmarks.ours import images

pytestmark = pytest.mark.usefixtures("weights_store")


@pytest.mark.filterwarnings("ignore")  # The packages' own.
@pytest.mark.parametrize(
    ("name", "network", "package"),
    [
        (name, network, package)
        for name, (network, packages) in distances.JAX_PACKAGES.items()
        for package in packages
    ],
)
def test_packages_are_ours(name, network, package):
    distance = pj.make(name)
    wanted = distance(distance.init(jax.random.key(0)), *images(2, 64))
    # The packages are written for JAX as it comes, where the tests have it strict.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        work = jax_packages.lpips(package, network, 2, 64, gradient=False)
        if work is None:
            pytest.skip(f"{package} or flax is not installed")
        got = work.call()
    np.testing.assert_allclose(np.ravel(got), wanted, rtol=1e-5)
