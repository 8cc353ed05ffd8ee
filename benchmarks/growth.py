"""How time and memory grow: with the batch, the side, targets, metrics and devices.

python -m benchmarks.growth --json benchmarks/growth.json --plot benchmarks/growth.png
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from benchmarks import ours
from experiments.image_mean import embed_targets, mean_loss

DISTANCES = ("lpips-vgg", "lpips-alex", "mmd++", "swd", "ssim", "mmd")
LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
METRICS = tuple(
    f"vgg16(layers=({layer!r},), metric={metric!r})"
    for metric in ("l1", "l2", "cosine", "gram")
    for layer in LAYERS
)


class Point(NamedTuple):
    """What one size took.

    Attributes:
      size: of what grows.
      milliseconds: the median of several calls.
      mebibytes: what the program works with, besides what it is given and returns.
      gigaflops: what it computes, on one device.
    """

    size: int
    milliseconds: float
    mebibytes: float
    gigaflops: float


def measured(size: int, function: Callable[..., object], *inputs: object) -> Point:
    """Compiles and times; some seconds."""
    program = jax.jit(function).lower(*inputs).compile()
    seconds: list[float] = []
    jax.block_until_ready(program(*inputs))
    while len(seconds) < 3 or (sum(seconds) < 1 and len(seconds) < 30):
        begun = time.perf_counter()
        jax.block_until_ready(program(*inputs))
        seconds.append(time.perf_counter() - begun)
    return Point(
        size,
        1e3 * statistics.median(seconds),
        program.memory_analysis().temp_size_in_bytes / 2**20,
        (program.cost_analysis() or {}).get("flops", 0) / 1e9,
    )


def _gradient(name: str, count: int, side: int, size: int) -> Point:
    distance = pj.make(name)
    params = distance.init(jax.random.key(0))
    slope = jax.grad(lambda params, x, y: distance(params, x, y).sum(), argnums=1)
    return measured(size, slope, params, *map(jnp.asarray, ours.images(count, side)))


def by_batch() -> Iterator[tuple[str, Point]]:
    """Gradients of pairs of 64 px."""
    for name, count in itertools.product(DISTANCES, (1, 2, 4, 8, 16)):
        yield name, _gradient(name, count, 64, count)


def by_side() -> Iterator[tuple[str, Point]]:
    """Gradients of one pair, against its pixels."""
    for name, side in itertools.product(DISTANCES, (32, 64, 128, 256)):
        if name == "mmd" and side > 128:
            continue  # Quadratic in the pixels, by definition: half a minute a call.
        yield name, _gradient(name, 1, side, side**2)


def by_targets() -> Iterator[tuple[str, Point]]:
    """A gradient of the image mean, 64 px, targets embedded before."""
    for name, count in itertools.product(("lpips-vgg", "mmd++", "ssim"), (1, 2, 4, 8, 16)):
        distance = pj.make(name)
        params = distance.init(jax.random.key(0))
        targets = embed_targets(distance, params, jnp.asarray(ours.images(count, 64)[0][None]))
        loss = mean_loss(distance)
        slope = jax.grad(lambda images, context, loss=loss: loss(context, images).sum())
        yield name, measured(count, slope, jnp.full((1, 64, 64, 3), 0.5), (params, targets))


def by_metrics() -> Iterator[tuple[str, Point]]:
    """Values of so many metrics on VGG-16's layers, in one program, 8 pairs of 64 px."""
    for count in (1, 2, 5, 10, 20):
        # The deepest layers first, so that every program has the whole network in it.
        distances = [pj.make(spec) for spec in METRICS[::-1][:count]]
        params = distances[0].init(jax.random.key(0))

        def values(params, x, y, distances=distances):
            return [distance(params, x, y) for distance in distances]

        yield "metrics on VGG-16", measured(count, values, params, *ours.images(8, 64))


def by_devices() -> Iterator[tuple[str, Point]]:
    """A gradient of 16 pairs of 64 px, spread over 1, 2, 4 and 8 fake devices.

    All devices share this machine's cores: what falls is the work of each, not the time.
    """
    devices = jax.devices()
    for name in ("lpips-alex", "mmd++", "ssim"):
        distance = pj.make(name)
        params = distance.init(jax.random.key(0))
        slope = jax.grad(lambda params, x, y, d=distance: d(params, x, y).sum(), argnums=1)
        wanted = None
        for count in (1, 2, 4, 8):
            mesh = jax.make_mesh(
                (count,),
                ("data",),
                axis_types=(jax.sharding.AxisType.Auto,),
                devices=devices[:count],
            )
            spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
            copied = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
            inputs = (
                jax.device_put(params, copied),
                *(jax.device_put(batch, spread) for batch in ours.images(16, 64)),
            )
            found = np.asarray(jax.jit(slope)(*inputs))
            wanted = found if wanted is None else wanted
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())
            yield name, measured(count, slope, *inputs)


PANELS: dict[str, tuple[Callable[[], Iterator[tuple[str, Point]]], str]] = {
    "batch": (by_batch, "pairs of 64 px"),
    "side": (by_side, "pixels of one pair"),
    "targets": (by_targets, "targets of 64 px"),
    "metrics": (by_metrics, "metrics"),
    "devices": (by_devices, "devices"),
}
"""`{what grows: (measurements, the axis' label)}`."""

_DEVICES = "--xla_force_host_platform_device_count=8"


def main() -> None:
    """Measures a panel in a process of its own, or all of them; prints, writes, draws."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("panels", nargs="*", help=f"of {', '.join(PANELS)}; by default all")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--plot", type=Path, help="also draw them into this PNG")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.panels) - set(PANELS)
    if unknown:
        parser.error(
            f"there is no panel {', '.join(sorted(unknown))}; there are {', '.join(PANELS)}"
        )
    if arguments.here:
        for panel in arguments.panels:
            for name, point in PANELS[panel][0]():
                print(json.dumps([name, point]), flush=True)
        return
    found: dict[str, dict[str, list[Point]]] = {}
    for panel in arguments.panels or PANELS:
        found[panel] = _measure(panel)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.plot:
        plot(found, arguments.plot)


def _measure(panel: str) -> dict[str, list[Point]]:
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | ({"XLA_FLAGS": f"{flags} {_DEVICES}"} if panel == "devices" else {})
    command = [sys.executable, "-m", "benchmarks.growth", panel, "--here"]
    found: dict[str, list[Point]] = {}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            name, numbers = json.loads(line)
            point = Point(*numbers)
            found.setdefault(name, []).append(point)
            print(
                f"{panel:8} {name:18} {point.size:6} {point.milliseconds:9.1f} ms "
                f"{point.mebibytes:7.1f} MiB {point.gigaflops:8.2f} GFLOP a device",
                flush=True,
            )
    if process.returncode:
        raise SystemExit(f"{panel} stopped; its error is above")
    return found


def plot(found: dict[str, dict[str, list[Point]]], file: Path) -> None:
    """Time above, memory below; both axes logarithmic, with the slope of what is linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(found), 6.4), layout="constrained")
    axes = figure.subplots(2, len(found), squeeze=False)
    for column, (panel, lines) in enumerate(found.items()):
        last = "gigaflops" if panel == "devices" else "mebibytes"
        labels = ("ms", "GFLOP on each device" if panel == "devices" else "MiB")
        for row, (value, label) in enumerate(zip(("milliseconds", last), labels, strict=True)):
            place = axes[row, column]
            for name, points in lines.items():
                sizes = [point.size for point in points]
                place.loglog(sizes, [getattr(p, value) for p in points], "o-", label=name)
            first = next(iter(lines.values()))
            sizes = [point.size for point in first]
            ends = np.array([first[0].size, first[-1].size], float)
            slope = ends[0] / ends if panel == "devices" else ends / ends[0]
            place.loglog(ends, getattr(first[0], value) * slope, "k:", label="proportional")
            place.set_xticks(sizes, [str(size) for size in sizes])
            place.minorticks_off()
            place.set_xlabel(PANELS[panel][1])
            place.set_ylabel(label)
            place.grid(alpha=0.3)
        axes[0, column].legend(fontsize=7)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
