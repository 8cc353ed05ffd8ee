"""Pyramids of a distance are sums over levels made by their definition."""

import jax
import numpy as np
import pytest
from scipy import ndimage

import perceptual_jax as pj

RNG = np.random.default_rng(0)
X = RNG.random((2, 21, 27, 3))
Y = np.clip(0.8 * X[:, :, ::-1] + 0.1 * RNG.standard_normal(X.shape), 0, 1)


def halved(image):
    """Means of 2x2 pixels of [h, w, c]; an odd last row or column is left out."""
    height, width = (side // 2 for side in image.shape[:2])
    blocks = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1)
    return blocks.mean(axis=(1, 3))


def gaussian_levels(image, count):
    levels = [image]
    for _ in range(count - 1):
        levels.append(halved(levels[-1]))
    return levels


def blurred(image, sigma, size):
    """By the sampled Gaussian; the border pixels go on for ever."""
    side = np.arange(size) - size // 2
    window = np.exp(-(side[:, None] ** 2 + side**2) / (2 * sigma**2))
    return ndimage.correlate(image, (window / window.sum())[:, :, None], mode="nearest")


def laplacian_levels(image, bands, sigma=2.0, size=5):
    """image - blur(image), then the same of blur(image) halved, and what is left at the end."""
    levels = []
    for _ in range(bands):
        smooth = blurred(image, sigma, size)
        levels.append(image - smooth)
        image = halved(smooth)
    return [*levels, image]


def l1(x, y):
    return np.abs(x - y).mean()


def l2(x, y):
    return np.square(x - y).mean()


def gradient(x, y):
    return (l1(np.diff(x, axis=0), np.diff(y, axis=0)) + l1(*np.diff((x, y), axis=2))) / 2


def check(spec, levels, distance, weights):
    """Every level's term, and their sum, of images on [-1, 1]."""
    with jax.enable_x64(True):
        pyramid = pj.make(spec)
        terms, value = pyramid.terms({}, X, Y), pyramid({}, X, Y)
    assert len(terms) == len(weights)
    for i in range(len(X)):
        pairs = zip(levels(2 * X[i] - 1), levels(2 * Y[i] - 1), strict=True)
        wanted = [weight * distance(*pair) for weight, pair in zip(weights, pairs, strict=True)]
        got = [terms[f"level{j}"][i] for j in range(len(weights))]
        np.testing.assert_allclose(got, wanted, rtol=1e-9)
        np.testing.assert_allclose(value[i], sum(wanted), rtol=1e-9)


def test_lap1():
    """sum_j 4^j |level j of x - level j of y|, as in GLO."""
    check("lap1", lambda image: laplacian_levels(image, 3), l1, (1, 4, 16, 64))
    assert pj.make("lap1")({}, X, Y).tolist() == pj.make("laplacian-pyramid")({}, X, Y).tolist()


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ("4^j", (1, 4, 16)),
        ("4^-j", (1, 1 / 4, 1 / 16)),
        ("4^(L-j)", (16, 4, 1)),
        ("1", (1, 1, 1)),
        ((0.5, 0, 2), (0.5, 0, 2)),
    ],
)
def test_laplacian_weights(weights, wanted):
    """Of two bands and the low-pass rest, finest first; also numbers of one's own."""
    spec = f"laplacian-pyramid(levels=2, weights={weights!r})"
    check(spec, lambda image: laplacian_levels(image, 2), l1, wanted)


@pytest.mark.parametrize(("sigma", "size"), [(2.0, 5), (1.0, 3), (0.7, 7), (3.0, 1)])
@pytest.mark.parametrize(("name", "distance"), [("l2", l2), ("gradient", gradient)])
def test_laplacian_blurs_and_distances(sigma, size, name, distance):
    spec = f"laplacian-pyramid(levels=2, sigma={sigma}, kernel_size={size}, distance={name!r})"
    check(spec, lambda image: laplacian_levels(image, 2, sigma, size), distance, (1, 4, 16))


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ("4^j", (1, 4, 16)),
        ("4^-j", (1, 1 / 4, 1 / 16)),
        ("4^(L-j)", (16, 4, 1)),
        ("1", (1, 1, 1)),
        ((0.1, 0.3, 1.0), (0.1, 0.3, 1.0)),
    ],
)
@pytest.mark.parametrize(("name", "distance"), [("l1", l1), ("gradient", gradient)])
def test_gaussian_pyramid(weights, wanted, name, distance):
    """The image itself, and its 2x2 means, one after the other."""
    spec = f"gaussian-pyramid(distance={name!r}, weights={weights!r})"
    check(spec, lambda image: gaussian_levels(image, 3), distance, wanted)


def test_flat_images_differ_in_the_rest_alone():
    """Bands see no brightness, at the border neither."""
    flat = np.full((1, 9, 8, 3), 0.3)
    terms = pj.make("laplacian-pyramid(levels=2, weights='1')").terms({}, flat, flat + 0.25)
    np.testing.assert_allclose([t.item() for t in terms.values()], [0, 0, 0.5], atol=1e-6)
