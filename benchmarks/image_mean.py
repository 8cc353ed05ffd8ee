"""A step of the image mean, VGG-16 features, 6 targets of 128 px: ours against the plain loop.

The plain loop repeats the image once per target and embeds the targets at every step. It is
written in PyTorch as the experiment was first published (a network as torchvision gives it, whose
weights gather gradients nobody uses), in PyTorch with the weights frozen, and in JAX, compiled.
"""

from __future__ import annotations

import os
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from benchmarks.timing import Row, Work
from experiments.common.optimise import adam_descent
from experiments.image_mean import embed_targets, mean_loss

__all__ = ["ROWS"]

_TARGETS, _SIZE = 6, 128


def _targets() -> np.ndarray:
    return np.random.default_rng(0).random((1, _TARGETS, _SIZE, _SIZE, 3), dtype=np.float32)


def _ours() -> Work:
    distance = pj.make("vgg16")
    params = distance.init(jax.random.key(0))
    context = (params, embed_targets(distance, params, jnp.asarray(_targets())))
    descent = adam_descent(mean_loss(distance), learning_rate=0.01)
    state = descent.init(jnp.full((1, _SIZE, _SIZE, 3), 0.5))

    def step() -> object:
        nonlocal state
        state = descent.advance(context, state, 1)
        return state.images.block_until_ready()

    return Work(step)


def _plain_jax() -> Work:
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

    return Work(step)


def _plain_torch(*, frozen: bool) -> Work | None:
    if find_spec("torch") is None:
        return None
    import torch

    from benchmarks.torch_forms import tensor, vgg_loss

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    layout = torch.contiguous_format
    loss_of, weights = vgg_loss(layout, frozen=frozen)
    inputs = tensor(_targets()[0])
    image = torch.full((1, 3, _SIZE, _SIZE), 0.5, requires_grad=True)
    optimiser = torch.optim.Adam([image], lr=0.01)

    def step() -> object:
        optimiser.zero_grad()
        loss = loss_of(image.repeat(_TARGETS, 1, 1, 1), inputs).mean()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        for leaf in weights:  # As a loop that forgets them leaves them.
            leaf.grad = None
        return loss.item()

    return Work(step)


ROWS = {
    "image-mean vgg16 6x128": Row(
        {
            "ours": _ours,
            "plain loop, JAX": _plain_jax,
            "plain loop, PyTorch": partial(_plain_torch, frozen=False),
            "plain loop, PyTorch, frozen weights": partial(_plain_torch, frozen=True),
        },
        budget=0.1,
    )
}
