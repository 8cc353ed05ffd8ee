"""Our weights under other people's names: the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy

from conversion import layouts
from conversion.name_maps import NAME_MAPS, Channels
from perceptual_jax import weights
from perceptual_jax._files import write_whole
from perceptual_jax.errors import choice

__all__ = ["DIALECTS", "export"]

DIALECTS = ("torchvision", "timm")
"""Whose names a network can be exported under."""


def export(name: str | Path, out: str | Path, *, dialect: str = "torchvision") -> Path:
    """Writes a weight set of the store as a safetensors file under other people's names.

    Layouts and shapes are theirs too, so that `load_state_dict` takes it. A network whose batch
    normalisation was folded is exported as the plain network that it is.

    Args:
      name: one of `weights.names()`, and a network comes with its classifier if that is in the
        store; or a file that `convert` wrote.
      out: the file to write.
      dialect: "torchvision" or "timm", for networks; LPIPS and DISTS have names of their own.

    Returns:
      The file written.

    Raises:
      WeightsError: if the weights are not in the store, or the dialect is not known.
    """
    choice("--dialect", dialect, DIALECTS)
    if str(name) not in weights.names() and Path(name).is_file():
        params, found = weights.read_file(name)
        sets = {found.weight_set: params}
    else:
        found = weights.provenance(str(name))
        sets = {str(name): weights.read(str(name))}
        classifier = f"{name}-classifier"
        if classifier in weights.names() and weights.find(classifier):
            sets[classifier] = weights.read(classifier)
    tensors: dict[str, np.ndarray] = {}
    for weight_set, params in sets.items():
        tensors |= _theirs(weight_set, params, dialect)
    write_whole(Path(out), safetensors.numpy.save(tensors, {"format": "pt", **found._asdict()}))
    return Path(out)


def _theirs(name: str, params: weights.Params, dialect: str) -> dict[str, np.ndarray]:
    """The tensors of a weight set under their names."""
    # What is left of a folded batch normalisation is the plain network.
    tables = NAME_MAPS[name.replace("_bn", "")]
    # LPIPS and DISTS have one table, their own; timm keeps torchvision's names where it has none.
    table = tables.get(dialect) or next(iter(tables.values()))
    tensors: dict[str, np.ndarray] = {}
    parts: dict[str, list[np.ndarray]] = {}
    for ours, row in table.items():
        if isinstance(row, Channels):
            layer, leaf = ours.rsplit(".", 1)
            parts.setdefault(row.name, []).append(params[layer][leaf])
            continue
        # Fully connected layers are matrices there, apart from timm's two before the last.
        matrix = ours.startswith("fc") and not row.name.startswith("pre_logits.")
        tensors[f"{row.name}.weight"] = layouts.theirs(
            params[ours]["kernel"], fully_connected=matrix
        )
        if "bias" in params[ours]:
            tensors[f"{row.name}.bias"] = params[ours]["bias"]
    for theirs, channels in parts.items():
        tensors[theirs] = np.concatenate(channels).reshape(1, -1, 1, 1)
    return tensors
