"""DISTS is its authors' definition on PyTorch's VGG-16, in float64."""

import jax
import numpy as np
import pytest
import torch
from torch import nn
from torch_features import channels_first, trained

import perceptual_jax as pj
from perceptual_jax.distances.dists import LAYERS, L2Pool

RNG = np.random.default_rng(0)


def pairs(*size):
    """Textures: noise, and other noise that is a little weaker."""
    x, other = RNG.random((2, 2, *size, 3))
    return x, np.clip(0.6 * other + 0.3 * x, 0, 1)


class Pool(nn.Module):
    """sqrt(g * x^2 + 1e-12) at every other place, g the Hanning window of side 5 less its zeros."""

    def forward(self, x):
        window = np.hanning(5)[1:-1]
        window = torch.from_numpy(np.outer(window, window) / window.sum() ** 2)
        window = window.expand(x.shape[1], 1, 3, 3)
        blurred = nn.functional.conv2d(x**2, window, stride=2, padding=1, groups=x.shape[1])
        return (blurred + 1e-12).sqrt()


@pytest.fixture(scope="module")
def network(weights_store):
    """VGG-16 up to its last ReLU; pools that do not alias instead of maxima."""
    modules = list(trained("vgg16").features)[:-1]
    return [Pool() if isinstance(module, nn.MaxPool2d) else module for module in modules]


def maps_of(network, images):
    """The image itself in [0, 1], and what each block of the network ends with."""
    images = channels_first(images)
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).reshape(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).reshape(1, 3, 1, 1)
    found, answers = [images], (images - mean) / deviation
    with torch.inference_mode():
        for module in network:
            if isinstance(module, Pool):
                found.append(answers)
            answers = module(answers)
    return [*found, answers]


def definition(network, x, y):
    """1 - sum alpha (2 mx my + C) / (mx^2 + my^2 + C) + beta (2 sxy + C) / (sx^2 + sy^2 + C).

    Returns each layer's part, which is sum (alpha + beta) less its similarity: alpha and beta have
    sum 1 over all.
    """
    weights = pj.weights.read("dists")
    total = sum(
        np.sum(leaf, dtype=np.float64) for each in weights.values() for leaf in each.values()
    )
    parts = {}
    for layer, fx, fy in zip(LAYERS, maps_of(network, x), maps_of(network, y), strict=True):
        alpha, beta = (
            torch.from_numpy(np.asarray(weights[layer][leaf], np.float64).ravel() / total)
            for leaf in ("alpha", "beta")
        )
        mx, my = fx.mean(dim=(2, 3)), fy.mean(dim=(2, 3))
        variances = fx.var(dim=(2, 3), correction=0) + fy.var(dim=(2, 3), correction=0)
        covariance = (fx * fy).mean(dim=(2, 3)) - mx * my
        texture = (2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6)
        structure = (2 * covariance + 1e-6) / (variances + 1e-6)
        parts[layer] = (alpha * (1 - texture) + beta * (1 - structure)).sum(dim=1)
    return parts


@pytest.mark.parametrize("size", [(8, 12), (11, 9)])
def test_definition(network, size):
    """Each layer's term, and their sum; even sides and odd ones."""
    x, y = pairs(*size)
    distance = pj.make("dists")
    params = distance.init(jax.random.key(0))
    with jax.enable_x64(True):
        run = jax.jit(lambda params, x, y: (distance(params, x, y), distance.terms(params, x, y)))
        value, terms = run(params, x, y)
    wanted = definition(network, x, y)
    for layer, part in wanted.items():
        np.testing.assert_allclose(terms[layer], part, rtol=1e-9)
    np.testing.assert_allclose(value, sum(wanted.values()), rtol=1e-9)


@pytest.mark.parametrize("size", [(2, 3, 8, 10), (1, 2, 7, 9), (1, 1, 1, 1)])
def test_pool(size):
    """Odd sides keep their last row."""
    features = RNG.standard_normal(size)
    with jax.enable_x64(True):
        nhwc = jax.numpy.asarray(features.transpose(0, 2, 3, 1))
        got = L2Pool("pool").apply({}, nhwc, jax.lax.Precision.HIGHEST)
    wanted = Pool()(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(got, wanted.transpose(0, 2, 3, 1), rtol=1e-12)


def test_another_sample_of_a_texture_is_near(weights_store):
    """Of one noise two samples are nearer than a flat image of its mean: l2 says the contrary."""
    x, other = RNG.random((2, 1, 64, 64, 3)).astype(np.float32)
    flat = np.full_like(x, 0.5)
    others = np.concatenate([other, flat])
    dists = pj.make("dists")
    sample, mean = jax.jit(dists.__call__)(dists.init(jax.random.key(0)), x, others)
    assert sample < 0.5 * mean
    sample, mean = pj.make("l2")({}, x, others)
    assert sample > 1.5 * mean
