"""A step of the image mean, VGG-16 features, 6 targets of 128 px: ours against the plain loop.

The plain loop repeats the image once per target and embeds the targets at every step. It is
written in PyTorch as the experiment was first published (a network as torchvision gives it, whose
weights gather gradients nobody uses), in PyTorch with the weights frozen, and in JAX, compiled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.optimise import adam_descent
from experiments.image_mean import embed_targets, mean_loss

__all__ = ["WAYS"]

_TARGETS, _SIZE = 6, 128
_LAYERS = ("pixels", "conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")


def _targets() -> np.ndarray:
    return np.random.default_rng(0).random((1, _TARGETS, _SIZE, _SIZE, 3), dtype=np.float32)


def _ours() -> Callable[[], object]:
    distance = pj.make("vgg16")
    params = distance.init(jax.random.key(0))
    context = (params, embed_targets(distance, params, jnp.asarray(_targets())))
    descent = adam_descent(mean_loss(distance), learning_rate=0.01)
    state = descent.init(jnp.full((1, _SIZE, _SIZE, 3), 0.5))

    def step() -> object:
        nonlocal state
        state = descent.advance(context, state, 1)
        return state.images.block_until_ready()

    return step


def _plain_jax() -> Callable[[], object]:
    distance = pj.make("vgg16")
    params = distance.init(jax.random.key(0))

    def loss(context, images):
        params, targets = context
        return distance(params, jnp.repeat(images, _TARGETS, axis=0), targets).mean(keepdims=True)

    descent = adam_descent(loss, learning_rate=0.01)
    state = descent.init(jnp.full((1, _SIZE, _SIZE, 3), 0.5))
    context = (params, jnp.asarray(_targets()[0]))

    def step() -> object:
        nonlocal state
        state = descent.advance(context, state, 1)
        return state.images.block_until_ready()

    return step


def _plain_torch(*, frozen: bool) -> Callable[[], object] | None:
    try:
        import torch
        from torch.nn import functional
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tensors = {
        layer: (
            torch.tensor(leaves["kernel"].transpose(3, 2, 0, 1).copy()).requires_grad_(not frozen),
            torch.tensor(leaves["bias"].copy()).requires_grad_(not frozen),
        )
        for layer, leaves in pj.weights.read("vgg16").items()
    }
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def features(x):
        x = (x - mean) / deviation
        found = [x]
        for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
            for index in range(1, convolutions + 1):
                kernel, bias = tensors[f"conv{block}_{index}"]
                x = functional.conv2d(x, kernel, bias, padding=1)
                if f"conv{block}_{index}" in _LAYERS:
                    found.append(x)
                x = functional.relu(x)
            x = functional.max_pool2d(x, 2)
        return found

    inputs = torch.tensor(_targets()[0].transpose(0, 3, 1, 2).copy())
    image = torch.full((1, 3, _SIZE, _SIZE), 0.5, requires_grad=True)
    optimiser = torch.optim.Adam([image], lr=0.01)

    def step() -> object:
        optimiser.zero_grad()
        pairs = zip(features(image.repeat(_TARGETS, 1, 1, 1)), features(inputs), strict=True)
        loss = sum((a - b).abs().mean() for a, b in pairs) / len(_LAYERS)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        for kernel, bias in tensors.values():  # As a loop that forgets them leaves them.
            kernel.grad = bias.grad = None
        return loss.item()

    return step


WAYS = {
    "ours": _ours,
    "plain loop, JAX": _plain_jax,
    "plain loop, PyTorch": partial(_plain_torch, frozen=False),
    "plain loop, PyTorch, frozen weights": partial(_plain_torch, frozen=True),
}
"""`{name: build}`; ours first."""
