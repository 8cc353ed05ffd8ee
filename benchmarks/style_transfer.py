"""A step of style transfer, a content of 256 px and a larger style: ours against the plain loop.

The plain loop embeds the picture, the content and the style at every step, each distance by a pass
of its own. It is written in PyTorch as the simplest published ones are: a network as torchvision
gives it, or with its weights frozen.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from benchmarks.timing import Peers, Row, Work
from experiments.common.optimise import adam_descent
from experiments.style_transfer import Config
from experiments.style_transfer.loss import style_loss, targets_for

__all__ = ["ROWS", "pictures", "start"]

_CONTENT_LAYERS = ("relu4_2",)
_STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
_CONTENT_SIZE, _STYLE_SIZE = (256, 256), (224, 256)
_STYLE_WEIGHT = 10.0


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """A content and a style, [h, w, 3]."""
    rng = np.random.default_rng(0)
    content, style = (
        rng.random((*size, 3), dtype=np.float32) for size in (_CONTENT_SIZE, _STYLE_SIZE)
    )
    return content, style


def start() -> np.ndarray:
    """Where every way starts, [1, h, w, 3]."""
    return 0.25 + 0.5 * np.random.default_rng(1).random((1, *_CONTENT_SIZE, 3), dtype=np.float32)


def _ours() -> Work:
    content_distance = pj.make("vgg16", layers=_CONTENT_LAYERS, metric="l2")
    style_distance = pj.make("vgg16", layers=_STYLE_LAYERS, metric="gram")
    params = content_distance.init(jax.random.key(0))
    content, style = pictures()
    blends = [[(style, 1.0)]]
    targets = targets_for(content_distance, style_distance, params, content, blends)
    one = jnp.ones(1)  # Terms as they are, as the plain loop has them.
    styles = tuple(each._replace(usual=one) for each in targets.styles)
    targets = targets._replace(content_usual=one, variation=one, styles=styles)
    config = Config(style_weight=_STYLE_WEIGHT)
    loss = style_loss(config, content_distance, style_distance)
    descent = adam_descent(loss, learning_rate=0.03)
    state = descent.init(jnp.asarray(start()))

    def step() -> object:
        nonlocal state
        state = descent.advance((params, targets), state, 1)
        return descent.images(state).block_until_ready()

    return Work(step)


def _plain_torch(*, frozen: bool) -> Work | None:
    if find_spec("torch") is None:
        return None
    import torch

    from benchmarks import torch_forms

    torch_forms.use_all_cores()
    options = {"layout": torch.contiguous_format, "frozen": frozen}
    of_content, weights = torch_forms.feature_distance(
        "vgg16", layers=_CONTENT_LAYERS, metric="l2", **options
    )
    of_style, more = torch_forms.feature_distance(
        "vgg16", layers=_STYLE_LAYERS, metric="gram", **options
    )
    content, style = (torch_forms.tensor(picture[None]) for picture in pictures())
    image = torch_forms.tensor(start()).requires_grad_()
    optimiser = torch.optim.Adam([image], lr=0.03)

    def step() -> object:
        optimiser.zero_grad()
        variation = image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()
        loss = of_content(image, content) + _STYLE_WEIGHT * of_style(image, style)
        (loss.sum() + 0.05 * variation).backward()
        optimiser.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        for leaf in (*weights, *more):  # As a loop that forgets them leaves them.
            leaf.grad = None
        return image.detach()

    return Work(step)


ROWS = {
    "style-transfer 1x256": Row(
        _ours,
        {
            "as published": Peers(
                {"plain loop, PyTorch": partial(_plain_torch, frozen=False)}, 1 / 1.5
            ),
            "frozen": Peers(
                {"plain loop, PyTorch, frozen weights": partial(_plain_torch, frozen=True)}, 1 / 1.5
            ),
        },
    )
}
