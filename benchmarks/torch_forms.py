"""The peers' side in PyTorch: distances from their definitions, as PyTorch's users write them.

Images are [n, 3, h, w] in [0, 1]. Weights are frozen, in the format that is asked for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

import perceptual_jax as pj
from benchmarks.ours import images
from benchmarks.timing import Work

__all__ = ["DISTANCES", "DRAWN", "distance", "feature_distance", "tensor", "use_all_cores"]

Distance = Callable[[Tensor, Tensor], Tensor]
Make = Callable[[torch.memory_format], Distance]


def distance(
    make: Make, count: int, side: int, *, gradient: bool, channels_last: bool = False
) -> Work:
    """Values of pairs, or the gradient of their sum in x, as `benchmarks.ours.distance`."""
    use_all_cores()
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    function = make(layout)
    x, y = (tensor(batch).contiguous(memory_format=layout) for batch in images(count, side))

    def value() -> object:
        with torch.no_grad():
            return function(x, y)

    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()

    def slope() -> object:
        return torch.autograd.grad(function(leaf, y).sum(), leaf)

    return Work(slope if gradient else value)


def use_all_cores() -> None:
    """As many threads as this process may have cores, which PyTorch does not always see."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def tensor(batch: object) -> Tensor:
    """A batch [n, h, w, c] as [n, c, h, w]."""
    return torch.as_tensor(batch).permute(0, 3, 1, 2).contiguous()


# --- Networks ------------------------------------------------------------------------------


def _layer_features(
    network: str, layers: Sequence[str], layout: torch.memory_format, *, frozen: bool = True
) -> tuple[Callable[[Tensor], list[Tensor]], list[Tensor]]:
    """A network up to its last layer asked for, and its weights."""
    weights = {
        layer: (
            torch.tensor(leaves["kernel"].transpose(3, 2, 0, 1).copy())
            .contiguous(memory_format=layout)
            .requires_grad_(not frozen),
            torch.tensor(leaves["bias"].copy()).requires_grad_(not frozen),
        )
        for layer, leaves in pj.weights.read(network).items()
    }
    table = {"vgg16": _vgg16, "alexnet": _alexnet}[network](weights)
    last = [name for name, _ in table if name in layers][-1]

    def features(x: Tensor) -> list[Tensor]:
        found = []
        for name, operation in table:
            x = operation(x)
            if name in layers:
                found.append(x)
                if name == last:
                    break
        return found

    return features, [leaf for leaves in weights.values() for leaf in leaves]


_Table = list[tuple[str, Callable[[Tensor], Tensor]]]


def _convolution(weights: tuple[Tensor, Tensor], stride: int, padding: int):
    kernel, bias = weights
    return lambda x: functional.conv2d(x, kernel, bias, stride=stride, padding=padding)


def _vgg16(weights: dict) -> _Table:
    table: _Table = []
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
        for place in (f"{block}_{index}" for index in range(1, convolutions + 1)):
            table.append((f"conv{place}", _convolution(weights[f"conv{place}"], 1, 1)))
            table.append((f"relu{place}", functional.relu))
        table.append((f"pool{block}", lambda x: functional.max_pool2d(x, 2)))
    return table


def _alexnet(weights: dict) -> _Table:
    table: _Table = []
    for layer, (stride, padding) in enumerate([(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)], start=1):
        table.append((f"conv{layer}", _convolution(weights[f"conv{layer}"], stride, padding)))
        table.append((f"relu{layer}", functional.relu))
        if layer < 3:
            table.append((f"pool{layer}", lambda x: functional.max_pool2d(x, 3, 2)))
    return table


_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LPIPS_LAYERS = {
    "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "alexnet": ("relu1", "relu2", "relu3", "relu4", "relu5"),
}


def _channels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _lpips(network: str, heads: str, layout: torch.memory_format) -> Distance:
    """Version 0.1, as the official package computes it."""
    features, _ = _layer_features(network, _LPIPS_LAYERS[network], layout)
    lines = [torch.tensor(head.copy()).reshape(1, -1, 1, 1) for head in _heads(heads)]
    shift, scale = _channels((-0.030, -0.088, -0.188)), _channels((0.458, 0.448, 0.450))

    def unit(x: Tensor) -> Tensor:
        return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)

    def value(x: Tensor, y: Tensor) -> Tensor:
        of_x, of_y = (features((2 * image - 1 - shift) / scale) for image in (x, y))
        parts = zip(of_x, of_y, lines, strict=True)
        return sum(
            functional.conv2d((unit(a) - unit(b)).square(), line).mean(dim=(1, 2, 3))
            for a, b, line in parts
        )

    return value


def _heads(name: str) -> list:
    heads = pj.weights.read(name)
    return [next(iter(heads[layer].values())) for layer in sorted(heads)]


# --- Features ------------------------------------------------------------------------------

_FEATURE_LAYERS = {
    "vgg16": ("pixels", "conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"),
    "alexnet": ("pixels", "conv1", "conv2", "conv3", "conv4", "conv5"),
}


def feature_distance(
    network: str,
    layout: torch.memory_format,
    *,
    layers: Sequence[str] | None = None,
    metric: str = "l1",
    frozen: bool = True,
) -> tuple[Distance, list[Tensor]]:
    """The mean over layers of a metric, and the network's weights."""
    layers = _FEATURE_LAYERS[network] if layers is None else layers
    features, weights = _layer_features(network, layers, layout, frozen=frozen)
    mean, deviation = _channels(_MEAN), _channels(_DEVIATION)
    compare = _METRICS[metric]

    def embed(x: Tensor) -> list[Tensor]:
        x = (x - mean) / deviation
        return [x, *features(x)] if "pixels" in layers else features(x)

    def value(x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(embed(x), embed(y), strict=True)
        return sum(compare(a, b) for a, b in pairs) / len(layers)

    return value, weights


def _l1(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().mean(dim=(1, 2, 3))


def _l2(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean(dim=(1, 2, 3))


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    return 1 - functional.cosine_similarity(x, y, dim=1).mean(dim=(1, 2))


def _gram(x: Tensor, y: Tensor) -> Tensor:
    def gram(features: Tensor) -> Tensor:
        flat = features.flatten(2)
        return flat @ flat.transpose(1, 2) / flat.shape[2]

    return (gram(x) - gram(y)).square().mean(dim=(1, 2))


_METRICS = {"l1": _l1, "l2": _l2, "cosine": _cosine, "gram": _gram}


# --- Patches -------------------------------------------------------------------------------


def _patch_rbf(x: Tensor, y: Tensor, size: int, sigma: float) -> Tensor:
    squares = (x - y).square().sum(dim=1, keepdim=True)
    sums = functional.avg_pool2d(squares, size, 1, size // 2) * size**2
    return (1 - torch.exp(-sums / (2 * (sigma * size**2) ** 2))).mean(dim=(1, 2, 3))


def _random_features(count: int, sigma: float, *, centred: bool) -> Distance:
    w = torch.randn(count, 3, 3, 3) / (9 * sigma)
    if centred:
        w = w - w.mean(dim=(2, 3), keepdim=True)
    b = torch.rand(count) * 2 * math.pi

    def embed(x: Tensor) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return functional.avg_pool2d(functional.conv2d(padded, w, b).cos(), 32, 16)

    return lambda x, y: 2 * (embed(x) - embed(y)).square().mean(dim=(1, 2, 3))


def _mmd_plus_plus(layout: torch.memory_format) -> Distance:
    features = _random_features(512, 0.06, centred=True)

    def value(x: Tensor, y: Tensor) -> Tensor:
        x, y = 2 * x - 1, 2 * y - 1
        return 0.001 * _l2(x, y) + 0.05 * _patch_rbf(x, y, 3, 0.1) + features(x, y) / 2

    return value


def _mmd_rff(layout: torch.memory_format) -> Distance:
    features = _random_features(1024, 0.06, centred=False)
    return lambda x, y: features(2 * x - 1, 2 * y - 1)


def _mmd(size: int, sigmas: Sequence[float], margin: int = 0, stride: int = 1) -> Distance:
    """Exact, from the kernel of all patches with all: three n x n matrices."""

    def patches(x: Tensor) -> Tensor:
        padded = functional.pad(2 * x - 1, (margin,) * 4, mode="reflect")
        return functional.unfold(padded, size, stride=stride).transpose(1, 2)

    def kernel_mean(u: Tensor, v: Tensor) -> Tensor:
        squares = u.square().sum(dim=2)[:, :, None] + v.square().sum(dim=2)[:, None]
        squares = squares - 2 * u @ v.transpose(1, 2)
        kernels = (torch.exp(-squares / (2 * (sigma * size**2) ** 2)) for sigma in sigmas)
        return sum(kernel.mean(dim=(1, 2)) for kernel in kernels)

    def value(x: Tensor, y: Tensor) -> Tensor:
        u, v = patches(x), patches(y)
        return kernel_mean(u, u) + kernel_mean(v, v) - 2 * kernel_mean(u, v)

    return value


def _swd(layout: torch.memory_format) -> Distance:
    directions = torch.randn(256, 3, 7, 7)
    directions = directions / directions.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()

    def embed(x: Tensor) -> Tensor:
        return functional.conv2d(2 * x - 1, directions).flatten(2).sort(dim=-1).values

    return lambda x, y: (embed(x) - embed(y)).abs().mean(dim=(1, 2))


def _ssim(layout: torch.memory_format) -> Distance:
    offsets = torch.arange(11) - 5.0
    line = torch.exp(-offsets.square() / (2 * 1.5**2))
    line = line / line.sum()
    down, across = (
        line.reshape(shape).repeat(3, 1, 1, 1) for shape in ((1, 1, 11, 1), (1, 1, 1, 11))
    )

    def blur(x: Tensor) -> Tensor:
        return functional.conv2d(functional.conv2d(x, down, groups=3), across, groups=3)

    def value(x: Tensor, y: Tensor) -> Tensor:
        mean_x, mean_y = blur(x), blur(y)
        variance_x = blur(x * x) - mean_x.square()
        variance_y = blur(y * y) - mean_y.square()
        covariance = blur(x * y) - mean_x * mean_y
        index = (2 * mean_x * mean_y + 1e-4) / (mean_x.square() + mean_y.square() + 1e-4)
        index = index * (2 * covariance + 9e-4) / (variance_x + variance_y + 9e-4)
        return 1 - index.mean(dim=(1, 2, 3))

    return value


def _features(network: str, **options: object) -> Make:
    return lambda layout: feature_distance(network, layout, **options)[0]


DISTANCES: dict[str, Make] = {
    "l1": lambda layout: lambda x, y: _l1(2 * x, 2 * y),
    "l2": lambda layout: lambda x, y: _l2(2 * x, 2 * y),
    "lpips-vgg": lambda layout: _lpips("vgg16", "lpips-vgg-v0.1", layout),
    "lpips-alex": lambda layout: _lpips("alexnet", "lpips-alex-v0.1", layout),
    "vgg16": _features("vgg16"),
    "alexnet": _features("alexnet"),
    **{
        f"{network}(metric={metric!r})": _features(network, metric=metric)
        for network in ("vgg16", "alexnet")
        for metric in ("l2", "cosine", "gram")
    },
    **{
        f"vgg16(layers={layer!r}, metric={metric!r})": _features(
            "vgg16", layers=(layer,), metric=metric
        )
        for layer, metric in (("relu3_3", "l2"), ("relu3_3", "cosine"), ("relu4_3", "gram"))
    },
    "mmd++": _mmd_plus_plus,
    "mmd-rff": _mmd_rff,
    "mmd(patch_size=11, window=None)": lambda layout: _mmd(11, (0.06,), margin=5),
    "mmd-multiscale(stride=2)": lambda layout: _mmd(7, (0.1, 0.05, 0.025, 0.01), stride=2),
    "swd": _swd,
    "ssim": _ssim,
    "patch-rbf": lambda layout: lambda x, y: _patch_rbf(2 * x - 1, 2 * y - 1, 3, 0.1),
}
"""`{spec of the catalogue: layout -> distance}`."""
DRAWN = ("mmd++", "mmd-rff", "swd")
"""Those that draw random numbers, each side its own: near one another, not equal."""
