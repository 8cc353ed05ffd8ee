"""Distances of oriented filters are their definitions."""

import math

import jax
import numpy as np
import pytest
from scipy import ndimage

import perceptual_jax as pj

RNG = np.random.default_rng(0)
X = RNG.random((2, 17, 22, 3))
Y = np.clip(X + 0.2 * RNG.standard_normal(X.shape), 0, 1)

PREWITT = [
    np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]]),
    np.array([[1, 1, 1], [0, 0, 0], [-1, -1, -1]]),
]


def gabor_filters(size):
    """exp(-(u^2 + g^2 v^2) / (2 s^2)) cos(2 pi u / l + pi), (u, v) turned by steps of pi / 8."""
    side = np.arange(size) - size // 2
    for orientation in range(8):
        for sigma in (0.2 * size, 0.4 * size):
            for wavelength in (0.25 * size, 0.5 * size):
                for aspect in (1, 2):
                    z = (side[None, :] + 1j * side[:, None]) * np.exp(
                        -1j * math.pi * orientation / 8
                    )
                    envelope = np.exp(-(z.real**2 + aspect**2 * z.imag**2) / (2 * sigma**2))
                    yield envelope * np.cos(2 * math.pi * z.real / wavelength + math.pi)


def window_means(answers, window, stride):
    """Of [h, w]: whole windows alone."""
    cut = np.lib.stride_tricks.sliding_window_view(answers, (window, window))
    return cut[::stride, ::stride].mean(axis=(2, 3))


def answer_maps(answers, window, stride):
    """Window means [filters, h', w'] of the positive part of each answer."""
    return np.stack([window_means(np.maximum(each, 0), window, stride) for each in answers])


def of_gray(filters):
    """Zeros beyond the border; gray is the mean of the channels on [-1, 1]."""

    def answers(image):
        gray = (2 * image - 1).mean(axis=-1)
        return [ndimage.correlate(gray, each, mode="constant") for each in filters]

    return answers


def check(spec, answers, window, stride, params=None):
    """Map and value: mean over filters, and windows, of the squared difference."""
    with jax.enable_x64(True):
        distance = pj.make(spec)
        params = distance.init(jax.random.key(0))
        value = distance(params, X, Y)
        embeddings = distance.embed(params, X), distance.embed(params, Y)
        (maps,) = distance.compare_maps(params, *embeddings).values()
    for i in range(len(X)):
        mx, my = (answer_maps(answers(images[i]), window, stride) for images in (X, Y))
        wanted = np.square(mx - my).mean(axis=0)
        np.testing.assert_allclose(maps[i], wanted, rtol=1e-9)
        np.testing.assert_allclose(value[i], wanted.mean(), rtol=1e-9)


WINDOWS = [(8, 4), (5, 5), (17, 1), (1, 1)]


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
def test_oriented_edges(window, stride):
    """Rising and falling edges differ: only one of a pair of directions is seen."""
    check(f"oriented-edges(window={window}, stride={stride})", of_gray(PREWITT), window, stride)


@pytest.mark.parametrize(("window", "stride"), WINDOWS[:2])
@pytest.mark.parametrize("size", [3, 11])
def test_gabor(size, window, stride):
    """64 filters: 8 orientations, 2 widths, 2 wavelengths, 2 aspects."""
    filters = list(gabor_filters(size))
    assert len(filters) == 64
    spec = f"gabor(patch_size={size}, window={window}, stride={stride})"
    check(spec, of_gray(filters), window, stride)


def test_alexnets_filters(weights_store):
    """conv1 of AlexNet at every place, on colours normalised as in training, with its biases."""
    first = pj.weights.read("alexnet")["conv1"]
    kernel, bias = np.asarray(first["kernel"], np.float64), np.asarray(first["bias"], np.float64)

    def answers(image):
        normalised = (image - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        padded = np.pad(normalised, ((5, 5), (5, 5), (0, 0)))
        cut = np.lib.stride_tricks.sliding_window_view(padded, (11, 11), axis=(0, 1))
        return np.einsum("ijcuv,uvco->oij", cut, kernel) + bias[:, None, None]

    check("gabor(filters='alexnet', window=8, stride=4)", answers, 8, 4)


def test_where_in_its_window_an_edge_is_does_not_count():
    """A square moved within one window; the same step out of it counts."""

    def square(row, column):
        image = np.zeros((1, 16, 32, 3))
        image[:, row : row + 6, column : column + 6] = 1
        return image

    edges = pj.make("oriented-edges(window=16, stride=16)")
    with jax.enable_x64(True):
        assert edges({}, square(2, 3), square(7, 8)).item() < 1e-28
        assert edges({}, square(2, 3), square(2, 13)).item() > 1e-3
