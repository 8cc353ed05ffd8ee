"""Networks in PyTorch, from their publishers' tables and under their names, with random weights."""

import bisect
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

_VGG = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
# Squeezed and expanded channels of each fire module, "M" for a pool.
_FIRES = {
    "squeezenet1_0": "16,64 16,64 32,128 M 32,128 48,192 48,192 64,256 M 64,256",
    "squeezenet1_1": "16,64 16,64 M 32,128 32,128 M 48,192 48,192 64,256 64,256",
}


class _Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def _vgg_features(table: str, norm: bool) -> Iterator[nn.Module]:
    inputs = 3
    for item in table.split():
        if item == "M":
            yield nn.MaxPool2d(2, 2)
            continue
        yield nn.Conv2d(inputs, inputs := int(item), 3, padding=1)
        if norm:
            yield nn.BatchNorm2d(inputs)
        yield nn.ReLU()


def _squeezenet_features(table: str, *first: int) -> Iterator[nn.Module]:
    yield nn.Conv2d(3, *first, stride=2)
    yield nn.ReLU()
    yield nn.MaxPool2d(3, 2, ceil_mode=True)
    inputs = first[0]
    for item in table.split():
        if item == "M":
            yield nn.MaxPool2d(3, 2, ceil_mode=True)
            continue
        squeezed, expanded = map(int, item.split(","))
        yield _Fire(inputs, squeezed, expanded)
        inputs = 2 * expanded


def _alexnet_features() -> Iterator[nn.Module]:
    yield from (nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2))
    yield from (nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2))
    yield from (nn.Conv2d(192, 384, 3, padding=1), nn.ReLU())
    yield from (nn.Conv2d(384, 256, 3, padding=1), nn.ReLU())
    yield from (nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2))


class _BlurPool(nn.Module):
    """Mirror by two, average with (1, 2, 1) both ways, take every other place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
        row = torch.tensor([0.25, 0.5, 0.25])
        kernel = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
        return nn.functional.conv2d(x, kernel, stride=2, groups=x.shape[1])


def _shift_tolerant_alexnet_features() -> Iterator[nn.Module]:
    yield from (nn.Conv2d(3, 64, 11, padding=2), _BlurPool(), nn.ReLU())
    yield from (nn.MaxPool2d(3, 1), _BlurPool())
    yield from (nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 1), _BlurPool())
    yield from (nn.Conv2d(192, 384, 3, padding=1), nn.ReLU())
    yield from (nn.Conv2d(384, 256, 3, padding=1), nn.ReLU())
    yield from (nn.Conv2d(256, 256, 3, padding=1), nn.ReLU())


def _shift_tolerant_vgg_features() -> Iterator[nn.Module]:
    *features, _ = _vgg_features(_VGG["vgg16"], norm=False)
    for module in features:
        if isinstance(module, nn.MaxPool2d):
            yield from (nn.MaxPool2d(2, 1), _BlurPool())
        else:
            yield module


# Where the publisher cuts the features into slices: the first place of each.
_SLICES = {"alexnet-shift-tolerant": (0, 3, 7, 10, 12), "vgg16-shift-tolerant": (0, 4, 10, 18, 26)}


class Network(nn.Module):
    """A network of torchvision's or of stlpips-pytorch's, in evaluation mode."""

    def __init__(self, name: str, *, with_classifier: bool):
        super().__init__()
        self._name = name
        plain = name.removesuffix("_bn")
        if plain in _VGG:
            features = _vgg_features(_VGG[plain], name != plain)
            pool = nn.AdaptiveAvgPool2d(7)
            if with_classifier:
                classifier = (
                    *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout()),
                    *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()),
                    nn.Linear(4096, 1000),
                )
        elif name == "alexnet":
            features = _alexnet_features()
            pool = nn.AdaptiveAvgPool2d(6)
            if with_classifier:
                classifier = (
                    *(nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU()),
                    *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()),
                    nn.Linear(4096, 1000),
                )
        elif name in _SLICES:
            alexnet = name.startswith("alexnet")
            features = (
                _shift_tolerant_alexnet_features() if alexnet else _shift_tolerant_vgg_features()
            )
            pool = nn.Identity()
        else:
            first = (96, 7) if name == "squeezenet1_0" else (64, 3)
            features = _squeezenet_features(_FIRES[name], *first)
            pool = nn.Identity()
            if with_classifier:
                last = nn.Conv2d(512, 1000, 1)
                classifier = (nn.Dropout(), last, nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.features = nn.Sequential(*features)
        self.avgpool = pool
        if with_classifier:
            self.classifier = nn.Sequential(*classifier)
        self.eval()

    def published(self) -> dict[str, torch.Tensor]:
        """The state dict under its publisher's names."""
        state = self.state_dict()
        if self._name not in _SLICES:
            return state
        slices = _SLICES[self._name]
        renamed = {}
        for key, tensor in state.items():
            _, place, leaf = key.split(".")
            renamed[f"net.slice{bisect.bisect(slices, int(place))}.{place}.{leaf}"] = tensor
        return renamed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(self.features(x))
        if isinstance(self.classifier[0], nn.Linear) or isinstance(self.classifier[1], nn.Linear):
            x = x.flatten(1)
        return self.classifier(x).flatten(1)

    def activations(self, x: torch.Tensor, count: int) -> list[torch.Tensor]:
        """What the first `count` of our layers give: a convolution is taken after its norm."""
        found = []
        normed = any(isinstance(module, nn.BatchNorm2d) for module in self.features)
        for module in self.features:
            if len(found) == count:
                break
            x = module(x)
            if not (normed and isinstance(module, nn.Conv2d)):
                found.append(x)
        return found


def network(name: str, *, with_classifier: bool = False, seed: int = 0) -> Network:
    """A network with random weights that keep the signal's magnitude."""
    with torch.device("meta"):
        made = Network(name, with_classifier=with_classifier)
    made = made.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in made.state_dict().items():
            if key.endswith("num_batches_tracked"):
                tensor.zero_()
            elif key.endswith("running_var") or (key.endswith("weight") and tensor.ndim == 1):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1:
                tensor.normal_(0, 0.1, generator=generator)
            else:
                fan_in = tensor[0].numel()
                tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
    return made


def hollow_state_dict(name: str, *, with_classifier: bool = False) -> dict[str, torch.Tensor]:
    """A state dict of the right names and shapes, all of one zero: a file of it is tiny."""
    with torch.device("meta"):
        made = Network(name, with_classifier=with_classifier)
    return {key: torch.zeros(()).expand(t.shape) for key, t in made.state_dict().items()}


def saved(state: object, path: Path) -> Path:
    """The file that `torch.save` writes."""
    torch.save(state, path)
    return path
