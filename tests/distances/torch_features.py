"""Networks of PyTorch in float64 that answer under our names of layers, for definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch_networks import network, saved

import conversion
from perceptual_jax import weights
from perceptual_jax.backbones import BACKBONES


def channels_first(images):
    """[n, h, w, c] as a tensor [n, c, h, w] of float64."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float64))


def trained(name):
    """The network with the weights in the store."""
    theirs, params = network(name).double(), weights.read(name)
    convolutions = [module for module in theirs.features if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for module, conv in zip(convolutions, BACKBONES[name].convolutions, strict=True):
            kernel = np.asarray(params[conv.name]["kernel"], np.float64).transpose(3, 2, 0, 1)
            module.weight.copy_(torch.from_numpy(kernel))
            module.bias.copy_(torch.from_numpy(np.asarray(params[conv.name]["bias"], np.float64)))
    return theirs


def random(name, folder):
    """The network with random weights, and those converted to our params."""
    theirs = network(name)
    file = saved(theirs.published(), folder / "theirs.pth")
    (path,) = conversion.convert(file, name, out=folder / "ours.safetensors")
    params, _ = weights.read_file(path, name)
    for each in (file, path):
        each.unlink()
    return theirs.double(), jax.tree.map(jnp.asarray, params)


def features(theirs, name, layers, images):
    """The outputs [n, c, h, w] of the layers named, of what the network is fed."""
    names = [layer.name for layer in BACKBONES[name].layers]
    places = [names.index(layer) for layer in layers]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # Of kernels that are made on the way.
    try:
        with torch.inference_mode():
            found = theirs.activations(images, max(places) + 1)
    finally:
        torch.set_default_dtype(before)
    return [found[place] for place in places]
