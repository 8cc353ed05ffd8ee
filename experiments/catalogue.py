"""The distances there are: what each embeds and compares, its options, and what it costs here.

perceptual-jax list
perceptual-jax list --measure
"""

from __future__ import annotations

import dataclasses
import time

import jax
import numpy as np
from rich.table import Table

import perceptual_jax as pj
from experiments.common.progress import console
from perceptual_jax.catalogue import entry
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "cost", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax list`."""

    measure: bool = False
    """Measure the time and memory of one pair of 256 px images on this machine."""


PRESETS = {"default": Config()}


def cost(distance: pj.Distance, *, size: int = 256, repeats: int = 5) -> tuple[float, float]:
    """Median milliseconds of a compiled call on one pair, and the MiB it works in."""
    params = distance.init(jax.random.key(0))
    x, y = np.random.default_rng(0).random((2, 1, size, size, 3), dtype=np.float32)
    compiled = jax.jit(distance.__call__).lower(params, x, y).compile()
    compiled(params, x, y).block_until_ready()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        compiled(params, x, y).block_until_ready()
        times.append(time.perf_counter() - begun)
    memory = compiled.memory_analysis()
    mebibytes = memory.temp_size_in_bytes / 2**20 if memory is not None else float("nan")
    return 1e3 * float(np.median(times)), mebibytes


def run(config: Config) -> None:
    """Prints the catalogue as a table."""
    table = Table("name", "what it compares", "params", "options", box=None)
    if config.measure:
        table.add_column("ms")
        table.add_column("MiB")
    for name in pj.names():
        line = entry(name)
        options = ", ".join(option for option in line.options if option != "value_range")
        distance = pj.make(name)
        try:
            shapes = jax.eval_shape(distance.init, jax.random.key(0))
            count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
            params = f"{count / 1e6:.2f} M" if count else "none"
            measured = [f"{x:.1f}" for x in cost(distance)] if config.measure else []
        except InputError as error:
            params, measured = "weights missing", ["", ""] if config.measure else []
            if config.measure:
                console.print(str(error), style="yellow")
        table.add_row(name, line.description, params, options, *measured)
    console.print(table)
