"""Array operations: every fast form equals the plain one, in value and gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from perceptual_jax.ops import copies as copies_module
from perceptual_jax.ops.convolution import conv2d
from perceptual_jax.ops.copies import copies
from perceptual_jax.ops.filters import (
    filter_by_products,
    filter_by_slices,
    filter_separable,
    filter_valid,
    gaussian_kernel,
    mean_2x2,
    pad_replicate,
    sum_channels,
)
from perceptual_jax.ops.pooling import max_pool
from perceptual_jax.ops.pyramids import gaussian_pyramid, laplacian_pyramid
from perceptual_jax.ops.safe import safe_abs, safe_norm, safe_sqrt
from perceptual_jax.ops.windows import (
    extract_patches,
    extract_windows,
    mean_patch,
    project_patches,
    window_counts,
    window_means,
    window_sums,
)

HIGHEST = jax.lax.Precision.HIGHEST


def draw(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def value_and_gradients(function, *arguments):
    value, pullback = jax.vjp(function, *arguments)
    return value, *pullback(jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape))


def assert_all_close(got, wanted, rtol=1e-5):
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol * np.abs(w).max())


# --- Pooling -------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2)])
@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (1, 7, 9, 2)])
def test_max_pool_is_reduce_window(size, stride, shape):
    """Values and gradient, with ties going to the first in row-major order."""
    images = jnp.round(draw(0, *shape))  # Rounded: most windows hold a tie.

    def plain(images):
        window, strides = (1, size, size, 1), (1, stride, stride, 1)
        return jax.lax.reduce_window(images, -jnp.inf, jax.lax.max, window, strides, "VALID")

    got = value_and_gradients(lambda i: max_pool(i, size, stride), images)
    assert_all_close(got, value_and_gradients(plain, images))


def test_a_ties_gradient_goes_to_the_first():
    gradient = jax.grad(lambda images: max_pool(images, 2, 2).sum())(jnp.ones((1, 2, 2, 1)))
    assert gradient.ravel().tolist() == [1, 0, 0, 0]


def test_max_pool_passes_nan_on():
    images = jnp.zeros((1, 2, 2, 1)).at[0, 0, 1, 0].set(jnp.nan)
    assert jnp.isnan(max_pool(images, 2, 2)).all()


# --- Copies --------------------------------------------------------------------------------


@pytest.mark.parametrize("cpu", [True, False])
@pytest.mark.parametrize("n", [1, 2, 16, 17, 40])
def test_copies_are_a_broadcast(n, cpu, monkeypatch):
    """Value, gradient, tangent and under vmap."""
    monkeypatch.setattr(copies_module, "on_cpu", lambda: cpu)
    x = draw(0, 1, 3, 2)

    def plain(x):
        return jnp.broadcast_to(x, (n, 3, 2))

    def ours(x):
        return copies(x, n)

    assert_all_close(value_and_gradients(ours, x), value_and_gradients(plain, x))
    tangent = draw(1, 1, 3, 2)
    assert_all_close(jax.jvp(ours, (x,), (tangent,)), jax.jvp(plain, (x,), (tangent,)))
    many = draw(2, 4, 1, 3, 2)
    np.testing.assert_array_equal(jax.vmap(ours)(many), jax.vmap(plain)(many))


# --- Filters, pyramids, windows ------------------------------------------------------------


def test_filters_are_scipys():
    """Correlation of every channel; the separable form is the outer product's."""
    ndimage = pytest.importorskip("scipy.ndimage")
    images, kernel = draw(0, 2, 9, 11, 3), np.asarray(draw(1, 3, 5), np.float64)
    wanted = ndimage.correlate(np.asarray(images, np.float64), kernel[None, :, :, None])
    np.testing.assert_allclose(
        filter_valid(images, kernel), wanted[:, 1:-1, 2:-2], rtol=1e-4, atol=1e-5
    )
    padded = pad_replicate(images, 1, 2)
    nearest = ndimage.correlate(
        np.asarray(images, np.float64), kernel[None, :, :, None], mode="nearest"
    )
    np.testing.assert_allclose(filter_valid(padded, kernel), nearest, rtol=1e-4, atol=1e-5)
    line = gaussian_kernel(5, 1.5)
    separable = filter_separable(images, line)
    np.testing.assert_allclose(separable, filter_valid(images, np.outer(line, line)), atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("weights", [(0.25, 0.5, 0.25), (0.1, 0.2, 0.4, 0.2, 0.07, 0.03), (2.0,)])
def test_separable_filters_forms_and_derivatives(weights, stride):
    """Either form is the filter; its derivatives and batches are those of the products."""
    images, direction = draw(0, 2, 9, 12, 3), draw(1, 2, 9, 12, 3)
    options = {"weights": weights, "stride": stride}
    ours = partial(filter_separable, kernel=np.array(weights), stride=stride)
    products = partial(filter_by_products, **options)
    assert_all_close([filter_by_slices(images, **options)], [products(images)])

    def all_of(filtered):
        def total(images):
            return jnp.sin(filtered(images)).sum()

        gradient = jax.grad(total)
        return jax.jit(
            lambda: (
                filtered(images),
                gradient(images),
                *jax.jvp(gradient, (images,), (direction,)),
                jax.vmap(filtered, in_axes=1)(images[:, None]),
            )
        )()

    assert_all_close(all_of(ours), all_of(products))


def test_filters_of_narrow_floats_are_summed_in_float32():
    images, line = draw(0, 1, 40, 40, 1).astype(jnp.bfloat16), np.full(33, 1 / 33)
    wanted = filter_separable(images.astype(jnp.float32), line)
    got = filter_separable(images, line)
    assert got.dtype == jnp.bfloat16
    assert jnp.array_equal(got, wanted.astype(jnp.bfloat16))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_filtered_images_stay_where_they_are(kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    images = draw(0, 8, 12, 12, 3)
    blur = jax.jit(partial(filter_separable, kernel=gaussian_kernel(5, 1.5)))
    got = blur(jax.device_put(images, spread))
    assert got.sharding.is_equivalent_to(spread, 4)
    assert_all_close([got], [blur(images)])


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (4, 3)])
def test_projected_patches_are_a_convolution(size, stride):
    images, directions = draw(0, 2, 9, 11, 3), draw(1, size, size, 3, 5)
    convolved = conv2d(images, directions, stride=stride)
    wanted = jnp.moveaxis(convolved.reshape(2, -1, 5), 1, 2)
    assert_all_close([project_patches(images, directions, stride, HIGHEST)], [wanted])


def test_gaussian_kernel():
    """Sums to 1, symmetric, with the ratio of a Gaussian."""
    kernel = gaussian_kernel(11, 1.5)
    np.testing.assert_allclose(kernel.sum(), 1)
    np.testing.assert_array_equal(kernel, kernel[::-1])
    np.testing.assert_allclose(kernel[6] / kernel[5], np.exp(-1 / (2 * 1.5**2)))


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (1, 7, 5, 1)])
def test_mean_2x2_drops_the_odd_edge(shape):
    images = draw(0, *shape)
    n, height, width, channels = shape
    even = images[:, : height // 2 * 2, : width // 2 * 2]
    blocks = even.reshape(n, height // 2, 2, width // 2, 2, channels)
    np.testing.assert_allclose(mean_2x2(images), blocks.mean(axis=(2, 4)), atol=1e-6)


def test_sum_channels():
    images = draw(0, 2, 3, 4, 5)
    np.testing.assert_allclose(sum_channels(images), images.sum(-1, keepdims=True), atol=1e-6)


def test_gaussian_pyramid_halves():
    levels = gaussian_pyramid(draw(0, 1, 9, 16, 3), 3)
    assert [level.shape[1:3] for level in levels] == [(9, 16), (4, 8), (2, 4)]


def test_laplacian_pyramid_loses_nothing():
    """Band plus blur is the level; a flat image has no bands."""
    kernel = np.outer(gaussian_kernel(5, 2.0), gaussian_kernel(5, 2.0))
    images = draw(0, 1, 8, 12, 3)
    band, rest = laplacian_pyramid(images, 1, kernel)
    blurred = filter_valid(pad_replicate(images, 2, 2), kernel)
    np.testing.assert_allclose(band + blurred, images, atol=1e-6)
    np.testing.assert_allclose(rest, mean_2x2(blurred), atol=1e-6)
    *bands, rest = laplacian_pyramid(jnp.full((1, 8, 12, 3), 0.5), 2, kernel)
    assert all(jnp.abs(band).max() < 1e-6 for band in bands)
    np.testing.assert_allclose(rest, 0.5, rtol=1e-6)


def test_windows_are_slices():
    images = draw(0, 2, 10, 13, 3)
    windows = extract_windows(images, 4, 3)
    corners = [(top, left) for top in (0, 3, 6) for left in (0, 3, 6, 9)]
    assert windows.shape == (2, len(corners), 4, 4, 3)
    for k, (top, left) in enumerate(corners):
        np.testing.assert_array_equal(windows[:, k], images[:, top : top + 4, left : left + 4])


@pytest.mark.parametrize(
    ("size", "stride"), [(3, 1), (4, 2), (6, 4), (4, 4), (8, 2), (2, 3), (2, 4), (1, 2), (3, 9)]
)
def test_window_sums_and_mean_patches_are_those_of_slices(size, stride):
    """Values and gradients, where blocks do and do not divide the windows and the image."""
    images = draw(0, 2, 11, 17, 3)

    def slow(images):
        windows = extract_windows(images, size, stride)
        places = (2, *window_counts(11, 17, size, stride), 3)
        return windows.sum(axis=(2, 3)).reshape(places)

    fast = value_and_gradients(lambda i: window_sums(i, size, stride), images)
    assert_all_close(fast, value_and_gradients(slow, images))
    means = jax.jvp(lambda i: window_means(i, size, stride), (images,), (images,))
    assert_all_close(means, 2 * [slow(images) / size**2])
    patches = value_and_gradients(
        lambda i: extract_patches(i, size, stride).mean(axis=(1, 2)), images
    )
    assert_all_close(value_and_gradients(lambda i: mean_patch(i, size, stride), images), patches)


# --- Kinks ---------------------------------------------------------------------------------


def test_kinks_have_gradient_zero():
    """Values of the plain functions; at zero the gradient is 0, elsewhere theirs."""
    x = jnp.array([-2.0, 0.0, 3.0])
    assert safe_abs(x).tolist() == [2, 0, 3]
    assert jax.grad(lambda x: safe_abs(x).sum())(x).tolist() == [-1, 0, 1]
    x = jnp.array([0.0, 4.0])
    assert safe_sqrt(x).tolist() == [0, 2]
    assert jax.grad(lambda x: safe_sqrt(x).sum())(x).tolist() == [0, 0.25]
    x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    assert safe_norm(x).tolist() == [[0], [5]]
    gradient = jax.grad(lambda x: safe_norm(x).sum())(x)
    np.testing.assert_allclose(gradient, [[0, 0], [0.6, 0.8]], rtol=1e-6)
