"""What crosses between devices in a step of GLO, compiled for more of them than there are.

    python -m benchmarks.many_devices --devices 256 --codes 100000000 --batch 8192

Nothing runs and no array is made: XLA compiles the step of `perceptual-jax glo`, as it is, for a
mesh of fake devices, and what its collectives hold is counted. A table of codes that crossed, or
the images of a batch, would be seen here long before anyone paid for the devices.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Collective", "collectives", "main"]

_BYTES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}
_CALL = re.compile(
    r"= (?P<holds>.*?) (?P<kind>all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)"
    r"(?:-start)?\("
)
_ARRAY = re.compile(r"(?P<type>[a-z]+[0-9]*)\[(?P<shape>[0-9,]*)\]")


class Collective(NamedTuple):
    """An operation between devices.

    Attributes:
      kind: as XLA calls it.
      shapes: of the arrays that it gives every device.
      bytes: of them together.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    bytes: int


def collectives(program: str) -> list[Collective]:
    """All those of a compiled program, from its text."""
    found = []
    for call in _CALL.finditer(program):
        arrays = _ARRAY.findall(call["holds"])
        shapes = tuple(tuple(map(int, shape.split(","))) if shape else () for _, shape in arrays)
        sizes = [
            _BYTES[kind] * math.prod(shape) for (kind, _), shape in zip(arrays, shapes, strict=True)
        ]
        found.append(Collective(call["kind"], shapes, sum(sizes)))
    return found


def compiled_step(distance: str, size: int, width: float, code: int, codes: int, batch: int) -> Any:
    """A step of GLO on all devices: the compiled program."""
    import jax
    import jax.numpy as jnp
    import optax

    import perceptual_jax as pj
    from experiments.common.code_table import code_table
    from experiments.common.generators import Generator, network
    from experiments.common.training import Codes, Method, lowered

    method = Method(
        network(Generator(size, width), (2, code)),
        pj.make(distance),
        optax.adam(1e-3, b1=0.5, b2=0.999),
        codes=Codes(lambda step: jnp.asarray(1e-2)),
    )
    table = partial(code_table, count=codes, size=code, deviation=0.01, multiple=batch)
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    return lowered(method, images, table).compile()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints what crosses, and writes it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--codes", type=int, default=100_000_000)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--code", type=int, default=512)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--distance", default="l2")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    # Before JAX starts.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={given.devices}"
    program = compiled_step(
        given.distance, given.size, given.width, given.code, given.codes, given.batch
    )
    found = collectives(program.as_text())
    memory = program.memory_analysis()
    by_kind = {
        kind: sum(each.bytes for each in found if each.kind == kind)
        for kind in sorted({each.kind for each in found})
    }
    largest = max(found, key=lambda each: each.bytes)
    table = 4 * given.codes * given.code
    print(f"{given.devices} devices, {given.codes:,} codes of {given.code}, batch {given.batch}")
    for kind, count in by_kind.items():
        print(f"{kind:20} {count / 2**20:10.1f} MiB a step")
    print(f"{'largest':20} {largest.bytes / 2**20:10.1f} MiB: {largest.kind} of {largest.shapes}")
    print(f"{'the codes':20} {table / 2**20:10.1f} MiB, of which none crosses but the batch's")
    print(f"{'arguments, a device':20} {memory.argument_size_in_bytes / 2**20:10.1f} MiB")
    print(f"{'work, a device':20} {memory.temp_size_in_bytes / 2**20:10.1f} MiB")
    if given.json:
        numbers = {
            "options": {key: value for key, value in vars(given).items() if key != "json"},
            "collectives": [each._asdict() for each in found],
            "arguments_bytes": memory.argument_size_in_bytes,
            "work_bytes": memory.temp_size_in_bytes,
        }
        given.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
