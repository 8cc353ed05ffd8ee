"""Runs the benchmarks, or those named, prints a table, and writes it as JSON if asked to.

python -m benchmarks [--json FILE] [ROW ...]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import jax

from benchmarks.timing import in_turns

ROWS = {"image-mean": "benchmarks.image_mean"}
"""`{row: module with WAYS}`; the first way is ours."""


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--rounds", type=int, default=9, help="how often each way is timed")
    arguments = parser.parse_args()
    strange = [row for row in arguments.rows if row not in ROWS]
    if strange:
        parser.error(f"there is no row {strange[0]!r}; there are: {', '.join(ROWS)}")
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2")
    results = {}
    for row in arguments.rows or ROWS:
        times = in_turns(ROWS[row], rounds=arguments.rounds)
        results[row] = {name: taken._asdict() for name, taken in times.items()}
        ours = next(iter(times.values())).median
        print(f"\n{row}")
        for name, taken in times.items():
            spread = f"{1e3 * taken.low:.0f} to {1e3 * taken.high:.0f}"
            ratio = taken.median / ours
            print(f"  {name:36} {1e3 * taken.median:8.1f} ms ({spread})  {ratio:5.2f} x ours")
    if arguments.json:
        about = {
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
        }
        arguments.json.write_text(json.dumps({"about": about, "seconds": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
