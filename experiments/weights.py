"""The pretrained weights: what there is, where it is, and whether it is sound.

perceptual-jax weights list
perceptual-jax weights get            # all that do not come with the library
perceptual-jax weights get vgg16
perceptual-jax weights verify
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import tyro
from rich.table import Table

import conversion
from experiments.common.progress import console
from perceptual_jax import weights
from perceptual_jax.weights import WeightsError

__all__ = ["PRESETS", "Config", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax weights`."""

    action: tyro.conf.Positional[Literal["list", "get", "verify"]] = "list"
    """What to do."""
    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Weight sets; by default all."""


PRESETS = {"default": Config()}


def run(config: Config) -> None:
    """Lists, gets or verifies weight sets.

    Raises:
      WeightsError: for an unknown name, a missing source, or weights that are not sound; all
        sets are tried first.
    """
    entries = [weights.entry(name) for name in config.names or weights.names()]
    if config.action == "list":
        _list(entries)
        return
    problems = []
    for entry in entries:
        try:
            if config.action == "get":
                console.print(f"{entry.name}: {conversion.get(entry.name)}")
            elif config.names or weights.find(entry.name):
                weights.read(entry.name)
                console.print(f"{entry.name}: sound")
            else:
                console.print(f"{entry.name}: not here")
        except WeightsError as error:
            problems.append(str(error))
    if problems:
        raise WeightsError("; ".join(problems))


def _list(entries: list[weights.WeightSet]) -> None:
    table = Table("name", "here", "source", "licence", "MB", box=None)
    for entry in entries:
        path = weights.find(entry.name)
        source = f"{entry.source['package']}=={entry.source['version']}"
        size = f"{path.stat().st_size / 1e6:.2f}" if path else ""
        here = "shipped" if entry.shipped else ("yes" if path else "no")
        table.add_row(entry.name, here, source, entry.licence, size)
    console.print(table)
    console.print(f"cache: {weights.cache_folder() / 'weights'}")
