"""A step of the image mean, 6 targets of 128 px: ours against the plain loop.

The plain loop repeats the image once per target and embeds the targets at every step. It is
written in PyTorch and in JAX, compiled; for a network in PyTorch also as the experiment was first
published (a network as torchvision gives it, whose weights gather gradients nobody uses).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from benchmarks.timing import Build, Peers, Row, Work
from experiments.common.optimise import adam_descent
from experiments.image_mean import embed_targets, mean_loss

__all__ = ["ROWS", "starting_image", "target_images"]

_TARGETS, _SIZE = 6, 128


def target_images() -> np.ndarray:
    """What every way starts towards, [1, n, h, w, 3]."""
    return np.random.default_rng(0).random((1, _TARGETS, _SIZE, _SIZE, 3), dtype=np.float32)


def starting_image() -> np.ndarray:
    """Where every way starts, [1, h, w, 3]; nothing is constant, so that no pool meets ties."""
    return 0.25 + 0.5 * np.random.default_rng(1).random((1, _SIZE, _SIZE, 3), dtype=np.float32)


def _ours(name: str) -> Work:
    distance = pj.make(name)
    params = distance.init(jax.random.key(0))
    targets = embed_targets(distance, params, jnp.asarray(target_images()))
    return _steps(mean_loss(distance), (params, targets))


def _plain_jax(name: str) -> Work:
    distance = pj.make(name)

    def loss(context, images):
        params, targets = context
        return distance(params, jnp.repeat(images, _TARGETS, axis=0), targets).mean(keepdims=True)

    return _steps(loss, (distance.init(jax.random.key(0)), jnp.asarray(target_images()[0])))


def _steps(loss: Callable, context: object) -> Work:
    descent = adam_descent(loss, learning_rate=0.01)
    state = descent.init(jnp.asarray(starting_image()))

    def step() -> object:
        nonlocal state
        state = descent.advance(context, state, 1)
        return descent.images(state).block_until_ready()

    return Work(step)


def _plain_torch(name: str, *, at_once: int = _TARGETS, frozen: bool = True) -> Work | None:
    """`at_once`: how many targets are compared before their gradients are gathered."""
    if find_spec("torch") is None:
        return None
    import torch

    from benchmarks import torch_forms

    torch_forms.use_all_cores()
    layout = torch.contiguous_format
    if frozen:
        loss_of, weights = torch_forms.DISTANCES[name](layout), []
    else:
        loss_of, weights = torch_forms.feature_distance(name, layout, frozen=False)
    inputs = torch_forms.tensor(target_images()[0]).split(at_once)
    image = torch_forms.tensor(starting_image()).requires_grad_()
    optimiser = torch.optim.Adam([image], lr=0.01)

    def step() -> object:
        optimiser.zero_grad()
        for targets in inputs:
            repeated = image.repeat(len(targets), 1, 1, 1)
            (loss_of(repeated, targets).sum() / _TARGETS).backward()
        optimiser.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        for leaf in weights:  # As a loop that forgets them leaves them.
            leaf.grad = None
        return image.detach()

    return Work(step)


def _row(name: str, published: Build, *others: tuple[str, Build]) -> Row:
    """The budget is against the loop as published; the other loops are better than that was."""
    loops = {"plain loop, JAX": partial(_plain_jax, name), **dict(others)}
    return Row(
        partial(_ours, name),
        {
            "as published": Peers({"plain loop, PyTorch": published}, 0.1),
            "compiled or frozen": Peers(loops, 1.0),
        },
    )


_LOOPS = {
    "vgg16": (
        partial(_plain_torch, "vgg16", frozen=False),
        ("plain loop, PyTorch, frozen weights", partial(_plain_torch, "vgg16")),
    ),
    "mmd++": (partial(_plain_torch, "mmd++"),),
    # With every patch the plain loop takes more than a minute a step.
    "mmd-multiscale(stride=2)": (partial(_plain_torch, "mmd-multiscale(stride=2)", at_once=1),),
}

ROWS = {
    f"image-mean {name} {_TARGETS}x{_SIZE}": _row(name, *loops) for name, loops in _LOOPS.items()
}
