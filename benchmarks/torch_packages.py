"""The peers' side in PyTorch: packages, on images [n, 3, h, w] in [0, 1], as their users call them.

lpips and piq import torchvision, of which there is no build for CPUs alone: they get a stand-in
with the networks that they ask for, built here and filled with the same weights as ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor, nn

import perceptual_jax as pj

__all__ = ["PACKAGES"]

Distance = Callable[[Tensor, Tensor], Tensor]


class _Network(nn.Module):
    """What torchvision's networks look like from outside."""

    def __init__(self, features: list[nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = 3
    for convolutions, outputs in zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True):
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(2, 2))
    return layers


def _alexnet() -> list[nn.Module]:
    layers: list[nn.Module] = []
    sizes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1))
    for index, (*channels, size, stride, padding) in enumerate((*sizes, (256, 256, 3, 1, 1))):
        convolution = nn.Conv2d(*channels, size, stride=stride, padding=padding)
        layers += [convolution, nn.ReLU(inplace=True)]
        if index in (0, 1, 4):
            layers.append(nn.MaxPool2d(3, 2))
    return layers


def _filled(name: str) -> _Network:
    network = _Network({"vgg16": _vgg16, "alexnet": _alexnet}[name]())
    convolutions = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for layer, leaves in zip(convolutions, pj.weights.read(name).values(), strict=True):
            layer.weight.copy_(torch.tensor(leaves["kernel"].transpose(3, 2, 0, 1).copy()))
            layer.bias.copy_(torch.tensor(leaves["bias"].copy()))
    return network


def _stand_in_for_torchvision() -> None:
    if "torchvision" in sys.modules:
        return
    models = ModuleType("torchvision.models")
    for name in ("vgg16", "alexnet"):
        setattr(models, name, lambda *_, name=name, **__: _filled(name))
    models.vgg19 = None  # piq imports this and names parts of that, and uses neither here.
    models.inception = ModuleType("torchvision.models.inception")
    models.inception.__getattr__ = lambda name: nn.Module
    package = ModuleType("torchvision")
    package.models = models
    sys.modules.update({"torchvision": package, "torchvision.models": models})


def _lpips(network: str) -> Distance | None:
    if find_spec("lpips") is None or find_spec("tqdm") is None:
        return None
    _stand_in_for_torchvision()
    import lpips

    module = lpips.LPIPS(net=network, verbose=False).eval().requires_grad_(False)
    return lambda x, y: module(x, y, normalize=True).flatten()


def _pytorch_msssim() -> Distance | None:
    if find_spec("pytorch_msssim") is None:
        return None
    from pytorch_msssim import ssim

    return lambda x, y: 1 - ssim(x, y, data_range=1, size_average=False)


def _piq() -> Distance | None:
    if find_spec("piq") is None:
        return None
    _stand_in_for_torchvision()
    import piq

    return lambda x, y: 1 - piq.ssim(x, y, data_range=1, downsample=False, reduction="none")


PACKAGES: Mapping[str, Mapping[str, Callable[[], Distance | None]]] = {
    "lpips-vgg": {"lpips": lambda: _lpips("vgg")},
    "lpips-alex": {"lpips": lambda: _lpips("alex")},
    "ssim": {"pytorch-msssim": _pytorch_msssim, "piq": _piq},
}
"""`{catalogue name: {package: () -> distance}}`; None where the package is not installed."""
