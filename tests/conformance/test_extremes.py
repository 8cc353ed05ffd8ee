"""Numbers that stay numbers: images, and options, of any size that floats can have."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from tests.conformance.cases import CASES


def images(side: int, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of huge, tiny, flat and equal images."""
    noise = np.random.default_rng(0).uniform(0.1, 1, (side, side, 3))
    flat = np.ones_like(noise)
    found = [
        (largest * flat, noise),
        (-largest * flat, noise),
        (largest * flat, -largest * flat),
        (largest * flat, largest * flat),
        (largest * (2 * noise - 1), noise),
        (largest**0.4 * noise, noise),
        (1e-40 * noise, 2e-40 * noise),  # Numbers that float32 has but few digits of.
        (1e-40 * noise, 0 * flat),
        (1e-20 * noise, 2e-20 * noise),  # Their squares are such, or 0.
        (0.3 * flat, 0.3 * flat),
    ]
    x, y = (np.stack(each).astype(np.float32) for each in zip(*found, strict=True))
    return x, y


def values_and_gradients(distance, x, y) -> tuple[jax.Array, ...]:
    """By one program."""
    params = distance.init(jax.random.key(0))

    @jax.jit
    def run(params, x, y):
        values, pullback = jax.vjp(lambda x, y: distance(params, x, y), x, y)
        return values, *pullback(jnp.ones_like(values))

    return run(params, x, y)


# What compiles in a second stands for its file; the rest are for the slow tests.
FAST = ("l2", "charbonnier", "lp", "gradient", "fft-l1", "ssim", "gmsd", "patch-rbf")


@pytest.mark.usefixtures("weights_store")
@pytest.mark.parametrize(
    "label",
    [pytest.param(label, marks=() if label in FAST else pytest.mark.slow) for label in CASES],
)
def test_images_of_any_size_are_at_finite_distances(label):
    """Up to the largest, inside of jit as outside; larger ones are refused where they are seen."""
    case = CASES[label]
    distance, (x, y) = case.make(), images(max(case.smallest, 8), case.largest)
    with pytest.raises(pj.InputError, match=re.escape(f"at most {case.largest:g}, or")):
        distance.embed(distance.init(jax.random.key(0)), 2 * x)
    found = values_and_gradients(distance, x, y)
    for name, numbers in zip(("values", "gradient of x", "gradient of y"), found, strict=True):
        bad = [i for i, each in enumerate(np.asarray(numbers)) if not np.isfinite(each).all()]
        assert not bad, f"{name} of pairs {bad}"


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
