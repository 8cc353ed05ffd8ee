"""Trained networks as safetensors files: found in a run's folder, read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from experiments.common.generators import Network
from experiments.common.run_folder import file_name
from perceptual_jax._files import write_whole
from perceptual_jax.errors import InputError, nearest, shortened

__all__ = ["Kind", "Saved", "find", "read", "write"]


# What safetensors, or what is made of a header that lies, may raise.
_MALFORMED = (KeyError, ValueError, TypeError, AttributeError)


class Kind(NamedTuple):
    """A kind of networks that are kept as files.

    Attributes:
      command: what trains them.
      bounds: the numbers that say what such a network is built like: `{option: (least, most)}`.
      build: those numbers, in that order, to the network.
    """

    command: str
    bounds: Mapping[str, tuple[int, int]]
    build: Callable[..., Network]

    def shape_of(self, config: Any) -> dict[str, int]:
        """The numbers of a network, which are options of those names."""
        return {field: getattr(config, field) for field in self.bounds}

    @property
    def header(self) -> str:
        """What a file of it says it is."""
        return f"perceptual_jax {self.command} 1"


class Saved(NamedTuple):
    """A trained network.

    Attributes:
      loss: what it was trained under.
      shape: its kind's numbers, by name.
      params: what was trained.
    """

    loss: str
    shape: dict[str, int]
    params: Any


def write(folder: Path, kind: Kind, saved: Saved) -> None:
    """Writes a network into a run's folder, by the name of its loss."""
    flat = traverse_util.flatten_dict(saved.params, sep="/")
    arrays = {name: np.ascontiguousarray(array) for name, array in flat.items()}
    header = {name: str(saved.shape[name]) for name in kind.bounds}
    header |= {"kind": kind.header, "loss": saved.loss}
    path = folder / f"network-{file_name(saved.loss)}.safetensors"
    write_whole(path, safetensors.numpy.save(arrays, header))


def read(path: Path, kind: Kind) -> Saved:
    """Reads a network.

    Raises:
      InputError: for what is not such a file.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header: Mapping[str, str] = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("kind") != kind.header:
            raise ValueError(f"it is not a network of {kind.command}")
        loss, shape = header["loss"], {name: int(header[name]) for name in kind.bounds}
        for name, (least, most) in kind.bounds.items():
            # A network of n blocks has more than n tensors: it is not built if the file has fewer.
            most = min(most, len(arrays)) if name in ("blocks", "levels") else most
            if not least <= shape[name] <= most:
                raise ValueError(f"its {name} is {shape[name]}")
        built = jax.eval_shape(kind.build(*shape.values()).init, jax.random.key(0))[0]
        wanted = traverse_util.flatten_dict(built, sep="/")
        if {name: array.shape for name, array in arrays.items()} != {
            name: array.shape for name, array in wanted.items()
        }:
            raise ValueError("its tensors are not those of the network that it names")
        if not all(
            array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()
        ):
            raise ValueError("its tensors are not all finite float32")
    except (safetensors.SafetensorError, OSError, *_MALFORMED) as error:
        reason = shortened(str(error))
        raise InputError(
            f"{path} is not a network that {kind.command} wrote ({reason}): "
            "give a network-*.safetensors file or the folder of a run"
        ) from error
    return Saved(loss, shape, traverse_util.unflatten_dict(arrays, sep="/"))


def find(given: str, loss: str | None, kind: Kind) -> Saved:
    """The network that a user asks for.

    Args:
      given: a run's folder, or one network's file.
      loss: which of the run's, by what it was trained under; None for the last one.
      kind: of the network.

    Raises:
      InputError: if there is none.
    """
    path = Path(given)
    if not given or not path.exists():
        raise InputError(
            f"--network must be the folder of a run of {kind.command}, or a network of it; "
            f"there is no {given or 'default'}"
        )
    if path.is_file():
        return read(path, kind)
    files = sorted(path.glob("network-*.safetensors"), key=lambda file: file.stat().st_mtime_ns)
    if not files:
        raise InputError(f"{path} holds no network-*.safetensors: has the run come to its end?")
    found = {network.loss: network for network in (read(file, kind) for file in files)}
    wanted = list(found)[-1] if loss is None else " ".join(loss.split())
    if wanted not in found:
        raise InputError(
            f"{path} has no network trained under {wanted!r}{nearest(wanted, found)}; "
            f"it has: {', '.join(found)}"
        )
    return found[wanted]
