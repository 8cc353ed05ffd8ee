"""LPIPS is its authors' definition on PyTorch's networks, in float64."""

import jax
import numpy as np
import pytest
import torch
from torch_features import channels_first, features, random, trained

import perceptual_jax as pj

RNG = np.random.default_rng(0)
X = RNG.random((2, 33, 36, 3))
Y = np.clip(X + 0.2 * RNG.standard_normal(X.shape), 0, 1)
# XLA's convolutions of float64 are slow: VGG sees a corner.
CORNER = X[:, :24, :27], Y[:, :24, :27]

ALEX = ("relu1", "relu2", "relu3", "relu4", "relu5")
VGG = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
SQUEEZE = ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")


def layer_maps(theirs, backbone, layers, heads, images, scaled=True):
    """`{layer: [n, 1, h', w']}`: differences of unit vectors, squared and weighed by the head."""
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).reshape(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).reshape(1, 3, 1, 1)

    def answers(images):
        fed = channels_first(2 * images - 1)
        return features(theirs, backbone, layers, (fed - shift) / scale if scaled else fed)

    maps = {}
    for layer, *pair in zip(layers, *map(answers, images), strict=True):
        ux, uy = (f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in pair)
        squared = (ux - uy) ** 2
        if heads is not None:
            head = np.array(heads[layer]["kernel"], np.float64).reshape(1, -1, 1, 1)
            squared = squared * torch.from_numpy(head)
        maps[layer] = squared.sum(dim=1, keepdim=True)
    return maps


def check(distance, params, images, maps):
    """Terms, and their sum, the distance."""
    with jax.enable_x64(True):
        # Weights are an argument: XLA would make constants of them, and work on these for long.
        run = jax.jit(lambda params, x, y: (distance(params, x, y), distance.terms(params, x, y)))
        value, terms = run(params, *images)
    assert set(terms) == set(maps)
    means = {layer: found.mean(dim=(1, 2, 3)).numpy() for layer, found in maps.items()}
    for layer, wanted in means.items():
        np.testing.assert_allclose(terms[layer], wanted, rtol=1e-9)
    np.testing.assert_allclose(value, sum(means.values()), rtol=1e-9)


@pytest.fixture(scope="module")
def networks(weights_store):
    return {name: trained(name) for name in ("alexnet", "vgg16")}


CASES = [
    ("lpips-alex", "alexnet", ALEX, "lpips-alex-v0.1", True),
    ("lpips-alex(version='0.0')", "alexnet", ALEX, "lpips-alex-v0.0", False),
    ("lpips-alex(heads=False)", "alexnet", ALEX, None, True),
    ("lpips-alex(heads=False, version='0.0')", "alexnet", ALEX, None, False),
    ("lpips-vgg", "vgg16", VGG, "lpips-vgg-v0.1", True),
    ("lpips-vgg(version='0.0')", "vgg16", VGG, "lpips-vgg-v0.0", False),
]


@pytest.mark.parametrize(("spec", "backbone", "layers", "heads", "scaled"), CASES)
def test_trained_networks(networks, spec, backbone, layers, heads, scaled):
    """sum_l mean_hw w_l . (u_l(x) - u_l(y))^2; version 0.0 is fed [-1, 1] as it is."""
    distance = pj.make(spec)
    params = distance.init(jax.random.key(0))
    assert set(params) == {backbone, heads} - {None}
    weights = None if heads is None else pj.weights.read(heads)
    images = CORNER if layers == VGG else (X, Y)
    maps = layer_maps(networks[backbone], backbone, layers, weights, images, scaled)
    check(distance, params, images, maps)


@pytest.mark.parametrize(
    ("spec", "backbone", "layers", "heads", "scaled"),
    [
        ("lpips-squeeze", "squeezenet1_1", SQUEEZE, "lpips-squeeze-v0.1", True),
        ("lpips-squeeze(version='0.0')", "squeezenet1_1", SQUEEZE, "lpips-squeeze-v0.0", False),
        ("st-lpips-alex", "alexnet-shift-tolerant", ALEX, "st-lpips-alex", True),
        ("st-lpips-vgg", "vgg16-shift-tolerant", VGG, "st-lpips-vgg", True),
    ],
)
def test_random_networks(spec, backbone, layers, heads, scaled, tmp_path):
    """Those whose trained weights are not to be had here, with the trained heads."""
    theirs, params = random(backbone, tmp_path)
    weights = pj.weights.read(heads)
    images = CORNER if layers == VGG else (X, Y)
    maps = layer_maps(theirs, backbone, layers, weights, images, scaled)
    check(pj.make(spec), {backbone: params, heads: weights}, images, maps)


def test_the_map_is_the_spatial_lpips(networks):
    """Each layer's map resized bilinearly to the images, and summed: `spatial=True` of theirs."""
    distance = pj.make("lpips-alex")
    with jax.enable_x64(True):
        got = jax.jit(distance.map)(distance.init(jax.random.key(0)), X, Y)
    maps = layer_maps(
        networks["alexnet"], "alexnet", ALEX, pj.weights.read("lpips-alex-v0.1"), (X, Y)
    )
    resize = torch.nn.Upsample(X.shape[1:3], mode="bilinear", align_corners=False)
    wanted = sum(map(resize, maps.values()))
    np.testing.assert_allclose(got, wanted[:, 0], rtol=1e-9)
