"""Distances learned from what people said: trained heads on the features of another distance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from perceptual_jax._files import write_whole
from perceptual_jax._typing import Array, Embedding, ImageLike, Key, Params, Terms
from perceptual_jax.distance import Distance, distance_from_maps, missing_params
from perceptual_jax.errors import InputError, shortened

__all__ = ["ENDING", "Learned", "feature_maps", "learned", "read_learned", "write_learned"]

ENDING = ".safetensors"
"""How the names of files of learned distances end."""

# What safetensors, or what is made of a header that lies, may raise.
_MALFORMED = (KeyError, ValueError, TypeError, AttributeError)

_FORMAT = "perceptual-jax learned distance 1"


class Learned(NamedTuple):
    """What a file holds.

    Attributes:
      trunk: the distance whose features are compared, as a spec of the catalogue; its name where
        there are params.
      heads: `{layer: weights of its channels [c]}`, at least 0.
      params: the trunk's, `{weight set: ...}`, where they were trained too; else None.
      about: how it was made, to be read by people.
    """

    trunk: str
    heads: Mapping[str, np.ndarray]
    params: Params | None = None
    about: Mapping[str, str] = {}


def learned(file: str, name: str, make: Callable[[str], Distance]) -> Distance:
    """sum_l mean_hw  w_l . (f_l(x) - f_l(y))^2, f the trunk's features and w learned.

    Args:
      file: what `write_learned` wrote.
      name: the distance's.
      make: makes the trunk from its spec.

    Returns:
      A distance of at least 0, with a term and a map for each layer. Params are the trunk's
      (under the distance's own name where they were trained too) and the heads under its name.

    Raises:
      InputError: if the file cannot be read or the trunk has no such features.
    """
    found = read_learned(file)
    trunk = make(found.trunk)
    trained = found.params is not None
    # Random weights stand under the name of their distance, which the options given here change.
    own_params = {
        trunk.name if weight_set == found.trunk else weight_set: layers
        for weight_set, layers in (found.params or {}).items()
    }

    def init(key: Key) -> Params:
        own = {"heads": jax.tree.map(jnp.asarray, dict(found.heads))}
        if trained:
            return {name: own | {"trunk": jax.tree.map(jnp.asarray, own_params)}}
        return {**trunk.init(key), name: own}

    def embed(params: Params, images: ImageLike) -> Embedding:
        if name not in params:
            raise missing_params(name, name, params)
        return feature_maps(trunk, params[name]["trunk"] if trained else params, images)

    def maps(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        if name not in params:
            raise missing_params(name, name, params)
        heads = params[name]["heads"]
        if heads.keys() != ex.keys():
            raise InputError(
                f"{file}: its heads are for {', '.join(heads)}; {found.trunk} has {', '.join(ex)}"
            )

        def weigh(layer: str) -> Array:
            squared = jnp.square(ex[layer] - ey[layer])
            head = heads[layer].astype(squared.dtype)
            return (squared * head.reshape(1, 1, 1, -1)).sum(axis=-1)

        return {layer: weigh(layer) for layer in heads}

    return distance_from_maps(name, embed, maps, init=init)


def feature_maps(trunk: Distance, params: Params, images: ImageLike) -> dict[str, Array]:
    """What a trunk embeds images as, if that is maps of features: `{layer: [n, h, w, c]}`.

    Raises:
      InputError: if it is something else.
    """
    found = trunk.embed(params, images)
    if not isinstance(found, dict) or any(getattr(leaf, "ndim", 0) != 4 for leaf in found.values()):
        raise InputError(
            f"{trunk.name} does not embed images as maps of features; "
            'take one that does: "lpips-vgg(heads=False)", "vgg16(metric=\'cosine\')"'
        )
    return found


# --- Files ---------------------------------------------------------------------------------


def write_learned(path: str | Path, metric: Learned) -> None:
    """Writes a learned distance, whole or not at all: `pj.make(path)` makes it.

    Raises:
      InputError: for weights of heads that are negative or not finite.
    """
    tensors = {
        f"heads/{layer}": np.asarray(head, np.float32) for layer, head in metric.heads.items()
    }
    for name, head in tensors.items():
        if head.ndim != 1 or not np.isfinite(head).all() or (head < 0).any():
            raise InputError(f"{name} must be [c], finite and at least 0")
    if metric.params is not None:
        for place, leaf in jax.tree_util.tree_leaves_with_path(metric.params):
            key = "/".join(part.key for part in place)
            tensors[f"trunk/{key}"] = np.asarray(leaf, np.float32)
    header = {"format": _FORMAT, "trunk": metric.trunk, "about": json.dumps(dict(metric.about))}
    write_whole(Path(path), safetensors.numpy.save(tensors, header))


def read_learned(path: str | Path) -> Learned:
    """Reads what `write_learned` wrote; nothing in it is executed.

    Raises:
      InputError: if the file is not there, or is none.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise InputError(
                    f"{path} is no learned distance: `perceptual-jax train-metric` writes them"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            about = json.loads(header["about"])
            trunk = header["trunk"]
            if not isinstance(about, dict):
                raise ValueError("it does not say how it was made")
    except InputError:
        raise
    except (safetensors.SafetensorError, OSError, RecursionError, *_MALFORMED) as error:
        reason = shortened(str(error))
        raise InputError(
            f"{path} cannot be read as a learned distance ({reason}): train it again"
        ) from None
    heads, params = {}, dict[str, Any]()
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise InputError(f"{path}: {shortened(key)} must be finite float32")
        if kind == "heads" and tensor.ndim == 1 and (tensor >= 0).all():
            heads[rest] = tensor
        elif kind == "trunk":
            *folders, leaf = rest.split("/")
            inner = params
            for folder in folders:
                inner = inner.setdefault(folder, {})
                if not isinstance(inner, dict):
                    break
            if not isinstance(inner, dict) or leaf in inner:
                raise InputError(f"{path}: {shortened(key)} is a tensor and a folder of tensors")
            inner[leaf] = tensor
        else:
            raise InputError(
                f"{path}: there should be no tensor {shortened(key)} {list(tensor.shape)} in it"
            )
    if not heads:
        raise InputError(f"{path} holds no heads")
    return Learned(trunk, heads, params or None, about)
