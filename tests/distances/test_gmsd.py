"""GMSD is its authors' MATLAB code."""

import jax
import numpy as np
import pytest
from scipy.signal import convolve2d

import perceptual_jax as pj

RNG = np.random.default_rng(0)


def same(image, kernel):
    """conv2(image, kernel, 'same'): of an even kernel the later half of the full result."""
    rows, columns = (side // 2 for side in kernel.shape)
    full = convolve2d(image, kernel)
    return full[rows : rows + image.shape[0], columns : columns + image.shape[1]]


def gradient_magnitude(image):
    """Of an RGB image in [0, 1], at half its size, on [0, 255]."""
    gray = 255 * image @ (0.2989, 0.5870, 0.1140)
    half = same(gray, np.full((2, 2), 1 / 4))[::2, ::2]
    prewitt = np.array([[1, 0, -1], [1, 0, -1], [1, 0, -1]]) / 3
    return np.sqrt(same(half, prewitt) ** 2 + same(half, prewitt.T) ** 2)


def deviation(x, y, c=170):
    """std2 of the map of similarities: over count - 1."""
    gx, gy = gradient_magnitude(x), gradient_magnitude(y)
    return ((2 * gx * gy + c) / (gx**2 + gy**2 + c)).std(ddof=1)


@pytest.mark.parametrize("size", [(3, 3), (32, 40), (33, 40), (32, 41), (33, 41)])
def test_definition(size):
    """GMSD.m on gray images, in float64, even sides and odd ones."""
    x = RNG.random((2, *size, 3))
    y = np.clip(x + 0.2 * RNG.standard_normal(x.shape), 0, 1)
    with jax.enable_x64(True):
        got = pj.make("gmsd")({}, x, y)
    wanted = [deviation(*pair) for pair in zip(x, y, strict=True)]
    np.testing.assert_allclose(got, wanted, rtol=1e-9)
