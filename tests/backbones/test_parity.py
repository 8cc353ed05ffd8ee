"""Every network gives what PyTorch's gives, layer by layer, from a file of PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch_networks import network as torch_network
from torch_networks import saved

import conversion
from perceptual_jax import weights
from perceptual_jax.backbones import BACKBONES

SIZES = [(33, 47), (65, 97)]
MORE_SIZES = [(64, 64), (224, 224)]
LARGE_CLASSIFIERS = ("alexnet", "vgg16", "vgg16_bn")


@pytest.fixture(scope="module", params=BACKBONES)
def both(request, tmp_path_factory):
    """A network of theirs, and its features' params converted."""
    name = request.param
    theirs = torch_network(name)
    folder = tmp_path_factory.mktemp(name)
    file = saved(theirs.published(), folder / "theirs.pth")
    (path,) = conversion.convert(file, name, out=folder / "ours.safetensors")
    params, _ = weights.read_file(path, name)
    yield BACKBONES[name], jax.tree.map(jnp.asarray, params), theirs
    for each in folder.iterdir():
        each.unlink()


def pictures(*size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, *size, 3)).astype(np.float32)


def channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def error(ours, theirs) -> float:
    theirs = theirs.numpy()
    assert ours.shape == theirs.shape
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def compare_layers(both, size) -> None:
    ours, params, theirs = both
    fitting = [
        layer.name for layer in ours.layers if ours.smallest_input([layer.name]) <= min(size)
    ]
    assert fitting
    images = pictures(*size)
    found = ours.features(params, jnp.asarray(images), fitting)
    with torch.inference_mode():
        wanted = theirs.activations(channels_first(images), len(fitting))
    errors = {
        layer: error(np.asarray(found[layer]).transpose(0, 3, 1, 2), reference)
        for layer, reference in zip(fitting, wanted, strict=True)
    }
    assert max(errors.values()) < 1e-5, errors


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_features(both, size):
    compare_layers(both, size)


@pytest.mark.slow
@pytest.mark.parametrize("size", MORE_SIZES, ids=str)
def test_features_of_square_images(both, size):
    compare_layers(both, size)


def compare_logits(name, folder, size) -> None:
    theirs = torch_network(name, with_classifier=True)
    file = saved(theirs.state_dict(), folder / "theirs.pth")
    paths = conversion.convert(file, name, with_classifier=True, out=folder / "ours.safetensors")
    params = {}
    for path, each in zip(paths, (name, f"{name}-classifier"), strict=True):
        params.update(jax.tree.map(jnp.asarray, weights.read_file(path, each)[0]))
    images = pictures(*size)
    ours = BACKBONES[name].logits(params, jnp.asarray(images))
    with torch.inference_mode():
        wanted = theirs(channels_first(images))
    assert ours.shape == (1, 1000)
    assert error(np.asarray(ours), wanted) < 1e-5
    for each in folder.iterdir():
        each.unlink()


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_logits(name, tmp_path):
    compare_logits(name, tmp_path, (65, 97))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_CLASSIFIERS)
@pytest.mark.parametrize("size", [(65, 97), (224, 224)], ids=str)
def test_logits_of_large_classifiers(name, size, tmp_path):
    """Fully connected layers are read in their order of channel, row and column."""
    compare_logits(name, tmp_path, size)
