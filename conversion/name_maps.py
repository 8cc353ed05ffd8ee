"""Whose tensor is whose: one table a network, their names beside ours.

A table says, for every layer of ours, which module of theirs holds its weight and bias, and which
batch normalisation follows it, if one does. How the numbers are laid out follows from the shapes
(`layouts.py`). All is written out from a few positions: a network of PyTorch's is a list of
modules, named by their places in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["FLAX_MODULES", "NAME_MAPS", "Channels", "Module", "NameMap"]


class Module(NamedTuple):
    """A module of theirs with a `weight`, and a `bias` if our layer has one.

    Attributes:
      name: their name, "features.0".
      norm: the batch normalisation after it, "features.1", to be folded into it; or None.
    """

    name: str
    norm: str | None = None


class Channels(NamedTuple):
    """A part of a vector of theirs, which they keep for all layers in one.

    Attributes:
      name: their name, "alpha".
      start: the first channel of the layer.
    """

    name: str
    start: int


NameMap = Mapping[str, Module | Channels]
"""`{our layer: their module}`; or `{"our layer.leaf": channels of theirs}`."""

# --- Places in `features` --------------------------------------------------------------------

_VGG_DEPTHS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
_VGG_PLACES = {
    "vgg11": (0, 3, 6, 8, 11, 13, 16, 18),
    "vgg13": (0, 2, 5, 7, 10, 12, 15, 17, 20, 22),
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
# With batch normalisation, each right after its convolution.
_VGG_BN_PLACES = {
    "vgg11": (0, 4, 8, 11, 15, 18, 22, 25),
    "vgg13": (0, 3, 7, 10, 14, 17, 21, 24, 28, 31),
    "vgg16": (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
    "vgg19": (0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49),
}
_ALEXNET_PLACES = (0, 3, 6, 8, 10)
_SHIFT_TOLERANT_VGG_PLACES = (
    *("1.0", "1.2", "2.6", "2.8", "3.12", "3.14", "3.16"),
    *("4.20", "4.22", "4.24", "5.28", "5.30", "5.32"),
)
_FIRE_PLACES = {
    "squeezenet1_0": (3, 4, 5, 7, 8, 9, 10, 12),
    "squeezenet1_1": (3, 4, 6, 7, 9, 10, 11, 12),
}


def _vgg_layers(network: str) -> list[str]:
    return [
        f"conv{block}_{index}"
        for block, depth in enumerate(_VGG_DEPTHS[network], start=1)
        for index in range(1, depth + 1)
    ]


def _vgg(network: str) -> NameMap:
    places = zip(_vgg_layers(network), _VGG_PLACES[network], strict=True)
    return {layer: Module(f"features.{place}") for layer, place in places}


def _vgg_bn(network: str) -> NameMap:
    places = zip(_vgg_layers(network), _VGG_BN_PLACES[network], strict=True)
    return {
        layer: Module(f"features.{place}", norm=f"features.{place + 1}") for layer, place in places
    }


def _shift_tolerant(layers: Sequence[str], places: Sequence[str]) -> NameMap:
    """Modules of stlpips-pytorch, whose networks are cut into slices."""
    found = zip(layers, places, strict=True)
    return {layer: Module(f"net.slice{place}") for layer, place in found}


def _squeezenet(network: str) -> NameMap:
    fires = {
        f"fire{number}_{part}": Module(f"features.{place}.{part}")
        for number, place in enumerate(_FIRE_PLACES[network], start=2)
        for part in ("squeeze", "expand1x1", "expand3x3")
    }
    return {"conv1": Module("features.0"), **fires}


def _fully_connected(*modules: str) -> NameMap:
    return dict(zip(("fc6", "fc7", "fc8"), map(Module, modules), strict=True))


def _heads(*layers: str) -> NameMap:
    return {layer: Module(f"lin{index}.model.1") for index, layer in enumerate(layers)}


_TORCHVISION_VGG_CLASSIFIER = _fully_connected("classifier.0", "classifier.3", "classifier.6")
_TIMM_VGG_CLASSIFIER = _fully_connected("pre_logits.fc1", "pre_logits.fc2", "head.fc")
_SQUEEZENET_CLASSIFIER: NameMap = {"conv10": Module("classifier.1")}

_DISTS_CHANNELS = {
    "pixels": 0,
    "relu1_2": 3,
    "relu2_2": 67,
    "relu3_3": 195,
    "relu4_3": 451,
    "relu5_3": 963,
}

_HEADS = {
    "alex": _heads("relu1", "relu2", "relu3", "relu4", "relu5"),
    "vgg": _heads("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
    "squeeze": _heads("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"),
}

# --- The tables ------------------------------------------------------------------------------

NAME_MAPS: Mapping[str, Mapping[str, NameMap]] = {
    # timm keeps torchvision's names for the convolutions of VGG.
    **{network: {"torchvision": _vgg(network)} for network in _VGG_DEPTHS},
    **{f"{network}_bn": {"torchvision": _vgg_bn(network)} for network in _VGG_DEPTHS},
    **{
        f"{network}{norm}-classifier": {
            "torchvision": _TORCHVISION_VGG_CLASSIFIER,
            "timm": _TIMM_VGG_CLASSIFIER,
        }
        for network in _VGG_DEPTHS
        for norm in ("", "_bn")
    },
    "alexnet": {
        "torchvision": {
            f"conv{index}": Module(f"features.{place}")
            for index, place in enumerate(_ALEXNET_PLACES, start=1)
        }
    },
    "alexnet-classifier": {
        "torchvision": _fully_connected("classifier.1", "classifier.4", "classifier.6")
    },
    **{network: {"torchvision": _squeezenet(network)} for network in _FIRE_PLACES},
    **{
        f"{network}-classifier": {"torchvision": _SQUEEZENET_CLASSIFIER} for network in _FIRE_PLACES
    },
    **{
        f"lpips-{net}-v{version}": {"lpips": heads}
        for net, heads in _HEADS.items()
        for version in ("0.0", "0.1")
    },
    "alexnet-shift-tolerant": {
        "stlpips": _shift_tolerant(
            ("conv1", "conv2", "conv3", "conv4", "conv5"), ("1.0", "2.5", "3.9", "4.11", "5.13")
        )
    },
    "vgg16-shift-tolerant": {
        "stlpips": _shift_tolerant(_vgg_layers("vgg16"), _SHIFT_TOLERANT_VGG_PLACES)
    },
    **{f"st-lpips-{net}": {"stlpips": _HEADS[net]} for net in ("alex", "vgg")},
    "dists": {
        "dists": {
            f"{layer}.{leaf}": Channels(leaf, start)
            for layer, start in _DISTS_CHANNELS.items()
            for leaf in ("alpha", "beta")
        }
    },
}
"""`{weight set: {whose names: their table}}`."""

FLAX_MODULES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "vgg16": (
        "VGG16_0",
        {layer: f"Conv_{index}" for index, layer in enumerate(_vgg_layers("vgg16"))},
    ),
    "alexnet": ("AlexNet_0", {f"conv{index}": f"Conv_{index - 1}" for index in range(1, 6)}),
}
"""Flax names its unnamed modules by counting: `{weight set: (module, {our layer: theirs})}`.
Kernels are HWIO on both sides."""
