"""Random features: our cosine is NumPy's, and features in blocks are those at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceptual_jax.ops import cosine, random_features
from perceptual_jax.ops.convolution import conv2d
from perceptual_jax.ops.cosine import cos
from perceptual_jax.ops.random_features import cosine_means
from perceptual_jax.ops.windows import window_means

HIGHEST = jax.lax.Precision.HIGHEST


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e3, 25e3])
def test_cosine_and_its_derivative(scale):
    x = np.linspace(-scale, scale, 100_001, dtype=np.float32)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(jax.jit(cos)(x), np.cos(exact), rtol=0, atol=2e-7)
    slope = jax.jit(jax.vmap(jax.grad(cos)))(x)
    np.testing.assert_allclose(slope, -np.sin(exact), rtol=0, atol=2e-7)


def test_cosine_is_bounded():
    """Where the digits of a number end before its units, too."""
    x = jnp.asarray([1e6, 1e9, -1e12, 1e30])
    assert (jnp.abs(cos(x)) <= 1).all()
    assert abs(cos(x)[0] - np.cos(1e6)) < 0.02


def test_cosine_passes_nan_on():
    assert np.isnan(cos(jnp.asarray([np.nan, np.inf, -np.inf]))).all()
    assert np.isnan(jax.grad(cos)(jnp.float32(np.nan)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_cosine_keeps_the_dtype(dtype):
    x = jnp.linspace(-9, 9, 99).astype(dtype)
    assert cos(x).dtype == dtype
    np.testing.assert_array_equal(cos(x), jnp.cos(x.astype(jnp.float32)).astype(dtype))


def test_accelerators_and_float64_keep_xlas_cosine(monkeypatch):
    assert "cos" not in str(jax.make_jaxpr(cosine._cos)(1.0)).split()
    with jax.enable_x64(True):
        assert cos(jnp.float64(1.0)) == np.cos(1.0)
    monkeypatch.setattr(cosine, "on_cpu", lambda: False)
    assert "cos" in str(jax.make_jaxpr(cos)(1.0)).split()


@pytest.mark.parametrize(("window", "stride"), [(None, 1), (1, 1), (4, 2), (5, 3)])
@pytest.mark.parametrize("count", [5, 6, 13])
def test_features_in_blocks_are_those_at_once(window, stride, count, monkeypatch):
    """Values and all three gradients, with blocks that fit and that do not."""
    monkeypatch.setattr(random_features, "_BLOCK", 6)
    keys = jax.random.split(jax.random.key(0), 4)
    images = jax.random.normal(keys[0], (2, 9, 11, 3))
    # Angles of a few radians: one of 20 is known to 2e-6, by the order in which it is summed.
    filters = jax.random.normal(keys[1], (3, 3, 3, count)) / 5
    phases = jax.random.uniform(keys[2], (count,))

    def at_once(images, filters, phases):
        features = jnp.cos(conv2d(images, filters, phases, precision=HIGHEST))
        if window is None:
            return features.mean(axis=(1, 2), keepdims=True)
        return window_means(features, window, stride)

    def in_blocks(images, filters, phases):
        return cosine_means(images, filters, phases, window, stride, HIGHEST)

    wanted, to_wanted = jax.vjp(at_once, images, filters, phases)
    got, to_got = jax.vjp(in_blocks, images, filters, phases)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)
    cotangent = jax.random.normal(keys[3], wanted.shape)
    for ours, theirs in zip(to_got(cotangent), to_wanted(cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6 * np.abs(theirs).max())


def test_transformations():
    """No images, forward mode, second derivatives, and a vmap of gradients."""
    images, filters, phases = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 70)), jnp.ones(70)

    def total(images):
        return jnp.square(cosine_means(images, filters, phases, 4, 2, HIGHEST)).sum()

    assert cosine_means(images[:0], filters, phases, 4, 2, HIGHEST).shape == (0, 1, 1, 70)
    slope = jax.grad(total)(images)
    _, along = jax.jvp(total, (images,), (images,))
    np.testing.assert_allclose(along, (slope * images).sum(), rtol=1e-4)
    _, curved = jax.jvp(jax.grad(total), (images,), (images,))
    _, back = jax.vjp(jax.grad(total), images)
    np.testing.assert_allclose(curved, back(images)[0], rtol=1e-3, atol=1e-4)
    mapped = jax.jit(jax.vmap(jax.grad(lambda image: total(image[None]))))(images)
    np.testing.assert_allclose(mapped, slope, rtol=1e-4)


def test_memory_does_not_grow_with_the_features():
    def peak(count):
        shapes = [(1, 64, 64, 3), (3, 3, 3, count), (count,)]
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        slope = jax.grad(lambda *a: cosine_means(*a, 32, 16, HIGHEST).sum())
        return jax.jit(slope).lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    assert peak(1024) < 1.5 * peak(128)
