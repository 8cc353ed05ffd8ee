"""Measures of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from perceptual_jax import statistics

IMAGES = jax.random.uniform(jax.random.key(0), (3, 9, 12, 3))


def test_gradient_energy_is_its_definition():
    pixels = np.asarray(IMAGES, np.float64)
    wanted = [
        np.square(np.diff(p, axis=0)).mean() + np.square(np.diff(p, axis=1)).mean() for p in pixels
    ]
    np.testing.assert_allclose(statistics.gradient_energy(IMAGES), wanted, rtol=1e-5)


def test_gradient_energy_does_not_depend_on_the_value_range():
    signed = statistics.gradient_energy(2 * IMAGES - 1, value_range=(-1.0, 1.0))
    np.testing.assert_allclose(signed, statistics.gradient_energy(IMAGES), rtol=1e-5)


def test_relative_sharpness():
    """1 on average for the references themselves; less for a blurred image."""
    sharp = statistics.relative_sharpness(IMAGES, IMAGES)
    np.testing.assert_allclose(sharp.mean(), 1, rtol=1e-5)
    blurred = (IMAGES[:, 1:] + IMAGES[:, :-1]) / 2
    assert (statistics.relative_sharpness(blurred, IMAGES) < sharp).all()


def test_flat_references_are_infinitely_dull():
    assert jnp.isinf(statistics.relative_sharpness(IMAGES, jnp.ones((1, 4, 4, 3)))).all()


def test_one_pixel_has_no_gradient():
    with pytest.raises(pj.InputError, match="at least 2x2"):
        statistics.gradient_energy(IMAGES[:, :1])
