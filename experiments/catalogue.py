"""The distances there are: what each embeds and compares, its options, and what it costs here.

    perceptual-jax list
    perceptual-jax list vgg16        # its options, their defaults and meanings
    perceptual-jax list --measure

What it lists is what --distances takes: as names, or with options, as "vgg16(metric='l2')".
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import time

import jax
import numpy as np
import tyro
from rich.table import Table
from rich.text import Text

import perceptual_jax as pj
from experiments.common.progress import console
from perceptual_jax.catalogue import Entry, entry
from perceptual_jax.weights import WeightsError

__all__ = ["PRESETS", "Config", "cost", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax list`."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of the catalogue; by default all, without their options."""
    measure: bool = False
    """Measure the time and memory of one pair of 256 px images on this machine."""


PRESETS = {"default": Config()}


def cost(distance: pj.Distance, *, size: int = 256, seconds: float = 2) -> tuple[float, float]:
    """Median milliseconds of a compiled call on one pair, and the MiB it works in.

    It is called again and again for that many seconds, at most a hundred times.
    """
    params = distance.init(jax.random.key(0))
    x, y = np.random.default_rng(0).random((2, 1, size, size, 3), dtype=np.float32)
    compiled = jax.jit(distance.__call__).lower(params, x, y).compile()
    compiled(params, x, y).block_until_ready()
    times: list[float] = []
    while sum(times) < seconds and len(times) < 100:
        begun = time.perf_counter()
        compiled(params, x, y).block_until_ready()
        times.append(time.perf_counter() - begun)
    memory = compiled.memory_analysis()
    mebibytes = memory.temp_size_in_bytes / 2**20 if memory is not None else float("nan")
    return 1e3 * float(np.median(times)), mebibytes


def run(config: Config) -> None:
    """Prints the catalogue as a table.

    Raises:
      InputError: for an unknown name.
    """
    lines = [entry(name) for name in config.names or pj.names()]
    table = Table(box=None)
    table.add_column("name", no_wrap=True)
    table.add_column("what it compares")
    for column in ("params", "ms", "MiB") if config.measure else ("params",):
        table.add_column(column, justify="right", no_wrap=True)
    missing: set[str] = set()
    for line in lines:
        distance = pj.make(line.name)
        try:
            shapes = jax.eval_shape(distance.init, jax.random.key(0))
            count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
            numbers = [f"{count / 1e6:.2f} M" if count else "none"]
            if config.measure:
                numbers += [f"{number:.1f}" for number in cost(distance)]
        except WeightsError as error:
            numbers = ["not here"]
            missing.add(str(error))
        table.add_row(line.name, line.description, *numbers)
    console.print(table)
    if missing:
        several = "perceptual-jax weights list shows what there is, weights get NAME gets it"
        console.print(f"not here: {missing.pop() if len(missing) == 1 else several}", markup=False)
    for line in lines if config.names else ():
        options = ", ".join(f"{option}={value!r}" for option, value in line.options.items())
        console.print(f"{line.name}({options})", markup=False)
        meanings = Table.grid(padding=(0, 2))
        for option, meaning in _meanings(line).items():
            meanings.add_row(f"  {option}", Text(meaning))
        console.print(meanings)


def _meanings(line: Entry) -> dict[str, str]:
    """What the factory's documentation says of its options."""
    section = re.search(
        r"^Args:\n(.+?)(?:\n\n|\Z)", inspect.getdoc(line.factory) or "", re.M | re.S
    )
    arguments = re.split(r"\n(?=\S)", textwrap.dedent(section[1])) if section else []
    said = (argument.partition(":") for argument in arguments)
    return {
        option: " ".join(meaning.split()) for option, _, meaning in said if option in line.options
    }
