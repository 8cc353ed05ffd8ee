"""Measures the tables of distances.md on this machine and writes them into it.

python -m docs.tables                       # both
python -m docs.tables costs                 # time and memory
python -m docs.tables precision             # errors of float32, bfloat16 and float16
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

import perceptual_jax as pj
from experiments.catalogue import cost
from experiments.common.data import embedded_picture
from experiments.common.distortions import blur, jpeg, noise
from perceptual_jax.weights import WeightsError

PAGE = Path(__file__).parent / "distances.md"
PICTURES = ("astronaut", "chelsea", "coffee")
SIDE = 176
DAMAGE = ((noise, 0.05), (blur, 0.075), (jpeg, 0.7))
DTYPES = ("float32", "bfloat16", "float16")
LIGHTER = {"mmd-multiscale": "mmd-multiscale(stride=4)"}
"""What stands for a distance that would take minutes: its time is quadratic in the pixels."""


def available() -> Iterator[tuple[pj.Distance, dict]]:
    """The distances of the catalogue whose weights are here, with their params."""
    for name in pj.names():
        distance = pj.make(LIGHTER.get(name, name))
        try:
            yield distance, distance.init(jax.random.key(0))
        except WeightsError as error:
            print(f"left out: {error}", file=sys.stderr)


def costs() -> Iterator[str]:
    """Milliseconds and MiB of every distance."""
    yield "| distance | ms | MiB |"
    yield "|---|---:|---:|"
    for distance, _ in available():
        milliseconds, mebibytes = cost(distance)
        yield f"| `{distance.name}` | {milliseconds:.1f} | {mebibytes:.1f} |"


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Nine pictures [9, h, w, 3] in [0, 1], and what became of them."""
    originals, others = [], []
    for name in PICTURES:
        image = pj.images.resize(embedded_picture(name), SIDE) / 255
        for distort, strength in DAMAGE:
            originals.append(image)
            others.append(np.clip(distort(image, strength), 0, 1))
    return np.stack(originals), np.stack(others)


def values_and_gradients(
    distance: pj.Distance, params: dict, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values [n] and gradients [n, h, w, c], one pair at a time."""

    @jax.jit
    def one(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda x: distance(params, x, y)[0])(x)

    found = [one(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    return np.stack([value for value, _ in found]), np.concatenate([g for _, g in found])


def precision() -> Iterator[str]:
    """Errors of the value and the gradient of every distance, against float64."""
    yield "| distance | " + " | ".join(f"value, {d} | gradient, {d}" for d in DTYPES) + " |"
    yield "|---" + "|---:" * 2 * len(DTYPES) + "|"
    x, y = pairs()
    for distance, params in available():
        with jax.enable_x64(True):
            wanted, wanted_gradients = values_and_gradients(distance, params, x, y)
        lengths = np.linalg.norm(wanted_gradients.reshape(len(x), -1), axis=1)
        cells = []
        for dtype in DTYPES:
            narrow = pj.make(distance.name, dtype=dtype)
            drawn = narrow.init(jax.random.key(0))  # The same numbers under its own name.
            got, gradients = values_and_gradients(
                narrow, drawn, x.astype(np.float32), y.astype(np.float32)
            )
            apart = np.linalg.norm((gradients - wanted_gradients).reshape(len(x), -1), axis=1)
            value = np.max(np.abs(got - wanted) / np.abs(wanted))
            cells += [f"{value:.0e}", f"{np.median(apart / lengths):.0e}"]
        yield f"| `{distance.name}` | " + " | ".join(cells) + " |"
        jax.clear_caches()


TABLES: dict[str, Callable[[], Iterator[str]]] = {"costs": costs, "precision": precision}


def write(name: str, lines: list[str]) -> None:
    """Puts a table between its markers in the page."""
    table = "\n".join(lines)
    page, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{table}\n{found[2]}",
        PAGE.read_text(),
        flags=re.DOTALL,
    )
    if count != 1:
        raise SystemExit(f"{PAGE} has no single place for the table {name!r}")
    PAGE.write_text(page)


if __name__ == "__main__":
    for table in sys.argv[1:] or TABLES:
        lines = []
        for line in TABLES[table]():
            print(line, flush=True)
            lines.append(line)
        write(table, lines)
