"""Distances of transformed images, against the transform done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj

X, Y = jax.random.uniform(jax.random.key(0), (2, 3, 24, 28, 3))
L1, L2, SSIM = (pj.make(name) for name in ("l1", "l2", "ssim"))


def halved(images):
    return images.reshape(3, 12, 2, 14, 2, 3).mean(axis=(2, 4))


def test_gaussian_pyramid():
    got = pj.on_gaussian_pyramid(SSIM, 2, [0.25, 2.0])({}, X, Y)
    wanted = 0.25 * SSIM({}, X, Y) + 2 * SSIM({}, halved(X), halved(Y))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_one_level_is_the_distance_itself():
    np.testing.assert_array_equal(pj.on_gaussian_pyramid(L2, 1)({}, X, Y), L2({}, X, Y))


def test_laplacian_pyramid_without_blur():
    """A kernel of one pixel leaves no bands: only the low-pass rest differs."""
    distance = pj.on_laplacian_pyramid(L1, 1, [7.0, 3.0], kernel=np.ones((1, 1)))
    np.testing.assert_allclose(distance({}, X, Y), 3 * L1({}, halved(X), halved(Y)), rtol=1e-5)


def test_laplacian_bands_are_grey_images():
    """Flat images have flat bands, in the middle of the value range: SSIM sees them as equal."""
    black, white = jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32, 3))
    distance = pj.on_laplacian_pyramid(SSIM, 1)
    terms = distance.terms({}, black, white)
    np.testing.assert_allclose(terms["level0"], 0, atol=1e-6)
    assert terms["level1"][0] > 0.9


def test_windows():
    got = pj.on_windows(SSIM, 12, 8)({}, X, Y)
    corners = [(top, left) for top in (0, 8) for left in (0, 8, 16)]
    cut = [np.s_[:, top : top + 12, left : left + 12] for top, left in corners]
    np.testing.assert_allclose(got, np.mean([SSIM({}, X[c], Y[c]) for c in cut], 0), rtol=1e-5)


@pytest.mark.parametrize("method", ["bicubic", "bilinear", "lanczos3", "nearest"])
def test_resized(method):
    """Antialiased, clipped to the value range."""
    got = pj.on_resized(L2, (12, 20), method=method)({}, X, Y)
    small = [jnp.clip(jax.image.resize(i, (3, 12, 20, 3), method), 0, 1) for i in (X, Y)]
    np.testing.assert_allclose(got, L2({}, *small), rtol=1e-5)


def test_resized_images_may_differ_in_size():
    assert pj.on_resized(L2, 16)({}, X, Y[:, :20, :20]).shape == (3,)


def test_params_are_those_of_the_part():
    vgg = pj.make("vgg16-random", layers=("relu1_1",))
    key = jax.random.key(0)
    wanted = vgg.init(key)
    for distance in (
        pj.on_gaussian_pyramid(vgg),
        pj.on_laplacian_pyramid(vgg),
        pj.on_windows(vgg, 8, 4),
        pj.on_resized(vgg, 8),
    ):
        jax.tree.map(np.testing.assert_array_equal, distance.init(key), wanted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pj.on_gaussian_pyramid(L1, 0), "levels must be a whole number of at least 1"),
        (lambda: pj.on_gaussian_pyramid(L1, 3, [1.0, 2.0]), "weights must be 3 numbers"),
        (lambda: pj.on_laplacian_pyramid(L1, 3, [1.0] * 3), "weights must be 4 numbers"),
        (lambda: pj.on_laplacian_pyramid(L1, 1, kernel=np.ones((2, 3))), "odd sides"),
        (lambda: pj.on_laplacian_pyramid(L1, 1, kernel=np.ones(4)), "odd sides"),
        (lambda: pj.on_windows(L1, 0, 1), "size must be a whole number of at least 1"),
        (lambda: pj.on_windows(L1, 4, 0), "stride must be a whole number of at least 1"),
        (lambda: pj.on_resized(L1, (0, 4)), "size must be positive"),
        (lambda: pj.on_resized(L1, 4, method="best"), "must be one of"),
        (lambda: pj.on_resized(L1, 4, value_range=(1, 1)), "increasing"),
    ],
)
def test_wrong_options(make, message):
    with pytest.raises(pj.InputError, match=message):
        make()
