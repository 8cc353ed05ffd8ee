"""Trained networks as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

import perceptual_jax as pj
from experiments.common.generators import network
from experiments.super_resolution.networks import Enlarger, margin
from experiments.super_resolution.tiles import TILE, in_tiles
from perceptual_jax._files import write_whole
from perceptual_jax.errors import InputError

__all__ = ["Saved", "enlarger", "read", "write"]

_KIND = "perceptual_jax super-resolution 1"


class Saved(NamedTuple):
    """A trained network.

    Attributes:
      loss: what it was trained under.
      module: the network.
      params: what was trained.
    """

    loss: str
    module: Enlarger
    params: Any


def write(path: Path, saved: Saved) -> None:
    """Writes a network as a safetensors file."""
    shape = {name: str(getattr(saved.module, name)) for name in ("scale", "blocks", "width")}
    flat = traverse_util.flatten_dict(saved.params, sep="/")
    arrays = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    header = {"kind": _KIND, "loss": saved.loss, **shape}
    write_whole(path, safetensors.numpy.save(arrays, header))


def read(path: Path) -> Saved:
    """Reads a network.

    Raises:
      InputError: for what is not such a file.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("kind") != _KIND:
            raise ValueError("it is not a network of super-resolution")
        module = Enlarger(*(int(header[name]) for name in ("scale", "blocks", "width")))
        params = traverse_util.unflatten_dict(arrays, sep="/")
        wanted = jax.eval_shape(network(module, (1, 8, 8, 3)).init, jax.random.key(0))[0]
        if jax.tree.map(np.shape, params) != jax.tree.map(np.shape, wanted):
            raise ValueError("its tensors are not those of the network that it names")
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} is not a network that super-resolution wrote ({error}): "
            "give a network-*.safetensors file or the folder of a run"
        ) from error
    return Saved(header["loss"], module, params)


def enlarger(module: Enlarger, tile: int = TILE) -> Callable[[Any, np.ndarray], np.ndarray]:
    """`(params, uint8 [h, w, 3]) -> uint8 [scale * h, scale * w, 3]`, tile by tile."""
    use = jax.jit(network(module, (1, 8, 8, 3)).use)

    def enlarge(params: Any, picture: np.ndarray) -> np.ndarray:
        made = in_tiles(
            lambda images: use(params, {}, images.astype(np.float32) / 255),
            picture,
            scale=module.scale,
            margin=margin(module.blocks),
            tile=tile,
        )
        return pj.images.to_uint8(made)

    return enlarge
