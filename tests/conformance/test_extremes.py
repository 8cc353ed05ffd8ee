"""Numbers that stay numbers: options, and images, of any size that floats can have."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj


def values_and_gradients(distance, x, y) -> tuple[jax.Array, ...]:
    """By one program."""
    params = distance.init(jax.random.key(0))

    @jax.jit
    def run(params, x, y):
        values, pullback = jax.vjp(lambda x, y: distance(params, x, y), x, y)
        return values, *pullback(jnp.ones_like(values))

    return run(params, x, y)


BOUNDS = [
    *(
        f"{name}(sigma={sigma})"
        for name in ("patch-rbf", "patch-laplace")
        for sigma in (1e-15, 1e15)
    ),
    *("lp(p=100)", "lp(p=1e-30)", "charbonnier(eps=1e-18)", "charbonnier(eps=1e18)"),
]
SLOW_BOUNDS = [
    *(f"{name}(sigma={sigma}, window=None{more})" for sigma in (1e-15, 1e15)
      for name, more in (("mmd", ""), ("mmd", ", kernel='laplace'"),
                         ("mmd-rff", ", num_features=16"))),
    *("mmd-multiscale(sigmas=(1e-15, 1e15), stride=3)", "swd(power=30, num_projections=8)"),
    *("swd(power=1e-30, num_projections=8)", "lap1(levels=1, sigma=1e-30)"),
    *(f"contextual(backbone='vgg16', layers=('relu1_2',), h={h})" for h in (1e-6, 1e15)),
]  # fmt: skip


@pytest.mark.usefixtures("weights_store")
@pytest.mark.parametrize(
    "spec", [*BOUNDS, *(pytest.param(spec, marks=pytest.mark.slow) for spec in SLOW_BOUNDS)]
)
def test_options_at_their_bounds_give_finite_distances(spec):
    """Of images that differ, that are the same, and that differ in one pixel."""
    rng = np.random.default_rng(0)
    x, other = rng.uniform(size=(2, 16, 16, 3)).astype(np.float32)
    one_pixel = x.copy()
    one_pixel[3, 4] = 0
    found = values_and_gradients(
        pj.make(spec), np.stack([x, x, x, 0 * x]), np.stack([other, x, one_pixel, 0 * x])
    )
    assert all(np.isfinite(numbers).all() for numbers in found)


@pytest.mark.parametrize("bad", [2e15, -1e30])
def test_images_too_large_to_be_squared_are_refused(bad):
    x = np.full((1, 8, 8, 3), 0.5, np.float32)
    x[0, 1, 2, 0] = bad
    with pytest.raises(pj.InputError, match=r"l2: images must be of at most 1e\+15"):
        pj.make("l2")({}, x, x)
