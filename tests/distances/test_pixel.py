"""Distances of pixels are their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj

RNG = np.random.default_rng(0)
X, Y = RNG.random((2, 2, 15, 18, 3))


@pytest.mark.parametrize("p", [0.5, 0.8, 1.0, 1.7, 3])
def test_lp_is_its_definition(p):
    """mean |x - y|^p on [-1, 1], in float64."""
    with jax.enable_x64(True):
        got = pj.make("lp", p=p)({}, X, Y)
    np.testing.assert_allclose(got, (np.abs(2 * (X - Y)) ** p).mean(axis=(1, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("p", [0.3, 0.5, 2.0])
def test_lp_leaves_pixels_that_agree(p):
    """The gradient is p |d|^(p - 1) sign(d), and 0, not infinite, where d is."""
    y = Y.copy()
    y[:, ::2] = X[:, ::2]
    with jax.enable_x64(True):
        got = jax.grad(lambda x: pj.make("lp", p=p)({}, x, y).sum())(jnp.asarray(X))
    apart = 2 * (X - y)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(apart == 0, 0, p * np.abs(apart) ** (p - 1) * np.sign(apart))
    np.testing.assert_allclose(got, slope * 2 / X[0].size, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("cut", [(15, 18), (14, 18), (13, 17)])
def test_fft_l1_is_numpys(cut):
    """(mean |Re| + mean |Im|) / 2 of numpy.fft's orthonormal transform, odd sizes and even ones."""
    x, y = (image[:, : cut[0], : cut[1]] for image in (X, Y))
    with jax.enable_x64(True):
        got = pj.make("fft-l1")({}, x, y)
    spectrum = np.fft.fft2(2 * (x - y), axes=(1, 2), norm="ortho")
    wanted = (np.abs(spectrum.real) + np.abs(spectrum.imag)).mean(axis=(1, 2, 3)) / 2
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_total_variation_is_its_definition():
    """mean |dx| + mean |dy|, in the range that images come in; 0 only where they are flat."""
    with jax.enable_x64(True):
        got = pj.total_variation(jnp.asarray(X))
    across = np.abs(X[:, :, 1:] - X[:, :, :-1]).mean(axis=(1, 2, 3))
    down = np.abs(X[:, 1:] - X[:, :-1]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(got, across + down, rtol=1e-12)
    flat = jnp.full((1, 4, 4, 3), 0.3)
    assert pj.total_variation(flat).tolist() == [0]
    assert not jax.grad(lambda images: pj.total_variation(images).sum())(flat).any()


@pytest.mark.parametrize("eps", [1e-3, 0.1])
def test_charbonnier_is_its_definition(eps):
    """mean sqrt((x - y)^2 + eps^2) on [-1, 1]."""
    with jax.enable_x64(True):
        got = pj.make("charbonnier", eps=eps)({}, X, Y)
    wanted = np.sqrt(np.square(2 * (X - Y)) + eps**2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


@pytest.mark.parametrize("gray", [False, True])
def test_gradient_is_its_definition(gray):
    """(mean |dx x - dx y| + mean |dy x - dy y|) / 2 on [-1, 1], of colours or of their mean."""
    with jax.enable_x64(True):
        got = pj.make("gradient", gray=gray)({}, X, Y)
    apart = 2 * (X - Y)
    if gray:
        apart = apart.mean(axis=-1, keepdims=True)
    across, down = (np.abs(np.diff(apart, axis=axis)).mean(axis=(1, 2, 3)) for axis in (2, 1))
    np.testing.assert_allclose(got, (across + down) / 2, rtol=1e-12)


def test_gradient_sees_edges_and_not_brightness():
    assert jnp.abs(pj.make("gradient")({}, X, X + 0.25)).max() < 1e-6
