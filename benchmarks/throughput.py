"""Triplets per second of a two-alternative test, by images embedded at once and by devices.

Fake devices share this machine's cores: what they show is that the distances are the same, and
that spreading the work costs little.

python -m benchmarks.throughput --json benchmarks/throughput.json --plot benchmarks/throughput.png
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import perceptual_jax as pj
from experiments.common.pairs import distances_of_pairs

DISTANCES = ("lpips-alex", "ssim", "mmd++")
IMAGES_AT_ONCE = (4, 8, 16, 32, 64, 128)
DEVICES = (1, 8)
_TRIPLETS, _SIDE = 500, 64


def measured(distance: str, images_at_once: int, folder: Path) -> tuple[float, np.ndarray]:
    """Seconds for triplets of images of their own, without compiling; and their distances."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3 * _TRIPLETS, _SIDE, _SIDE, 3), dtype=np.uint8)
    triplets = np.arange(3 * _TRIPLETS).reshape(-1, 3)

    def distances(count: int, where: str) -> np.ndarray:
        return distances_of_pairs(
            [pj.make(distance)],
            triplets[:count, [0, 1, 0, 2]].reshape(-1, 2),
            pixels.__getitem__,
            folder / where,
            seed=0,
            images_at_once=images_at_once,
            pairs_at_once=64,
            asked_to_stop=lambda: False,
        )

    seconds = {}
    for count in (_TRIPLETS // 5, _TRIPLETS):
        begun = time.perf_counter()
        found = distances(count, f"{distance}-{images_at_once}-{count}")
        seconds[count] = time.perf_counter() - begun
    # Both compiled the same programs; what is between them is work.
    few, many = seconds
    return (seconds[many] - seconds[few]) * many / (many - few), found[0]


def main() -> None:
    """Measures with each number of devices in a process of its own; prints, writes, draws."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--plot", type=Path, help="also draw them into this PNG")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.into:
        _measure_here(arguments.into)
        return
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        kept = {devices: Path(folder, str(devices)) for devices in DEVICES}
        for devices, into in kept.items():
            into.mkdir()
            flags = f"--xla_force_host_platform_device_count={devices}"
            command = [sys.executable, "-m", "benchmarks.throughput", "--into", str(into)]
            subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, check=True)
            found[f"{devices} devices"] = json.loads((into / "seconds.json").read_text())
        one, eight = (np.load(kept[devices] / "distances.npy") for devices in DEVICES)
    apart = float(np.abs(eight / one - 1).max())
    for devices, lines in found.items():
        for distance, rates in lines.items():
            print(devices, distance, *(f"{rate:.0f}" for rate in rates), "triplets/s")
    print(f"8 devices against 1: distances within {apart:.1e}")
    if arguments.json:
        about = {"images_at_once": IMAGES_AT_ONCE, "triplets": _TRIPLETS, "side": _SIDE}
        record = {**about, "triplets_per_second": found, "devices_apart": apart}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    if arguments.plot:
        plot(found, arguments.plot)


def _measure_here(into: Path) -> None:
    rates: dict[str, list[float]] = {}
    values = []
    for distance in DISTANCES:
        for images_at_once in IMAGES_AT_ONCE:
            seconds, found = measured(distance, images_at_once, into)
            rates.setdefault(distance, []).append(_TRIPLETS / seconds)
            values.append(found)
    np.save(into / "distances.npy", np.stack(values))
    (into / "seconds.json").write_text(json.dumps(rates))


def plot(found: dict[str, dict[str, list[float]]], file: Path) -> None:
    """Triplets per second against images at once, a line for each distance and devices."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for (devices, lines), style in zip(found.items(), ("o-", "s--"), strict=True):
        for colour, (distance, rates) in enumerate(lines.items()):
            axes.loglog(
                IMAGES_AT_ONCE, rates, style, color=f"C{colour}", label=f"{distance}, {devices}"
            )
    axes.set_xticks(IMAGES_AT_ONCE, [str(count) for count in IMAGES_AT_ONCE])
    axes.minorticks_off()
    axes.set(xlabel="images embedded at once, on a device", ylabel="triplets of 64 px per second")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
