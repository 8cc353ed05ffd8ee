"""Your pictures in a style, by a network that `perceptual-jax fast-style` trained.

perceptual-jax stylise photo.jpg photos/ --network runs/fast-style/NAME
"""

from __future__ import annotations

import dataclasses
import time

import jax
import numpy as np
import tyro

import perceptual_jax as pj
from experiments.common import network_files
from experiments.common.options import check_bounds
from experiments.common.pictures import fitted, named_pictures
from experiments.common.progress import console, progress
from experiments.common.report import Report
from experiments.common.run_folder import file_name, start
from experiments.fast_style.networks import KIND, stylised
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax stylise`."""

    pictures: tyro.conf.Positional[tuple[str, ...]]
    """Image files, folders of them, or names of embedded pictures."""
    network: str = ""
    """A run of fast-style (its folder), or one network-*.safetensors of it."""
    size: int = 0
    """Resize pictures so that their longer side is this, in pixels; 0 leaves them as they are. The
    strokes are as large as the network learned them, whatever the picture's size."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""


PRESETS = {"default": Config(pictures=())}

_SHOWN, _LEAST = 20, 32


def run(config: Config) -> dict[str, np.ndarray]:
    """Draws the pictures in the style, and writes them into the run's folder.

    Returns:
      `{name: uint8 [h, w, 3]}`.

    Raises:
      InputError: for pictures or networks that cannot be used.
    """
    check_bounds(config, {"size": (0, 10**5)})
    trained = network_files.find(config.network, None, KIND)
    pictures = named_pictures("PICTURES", config.pictures, ())
    for name, picture in pictures.items():
        if min(picture.shape[:2]) < _LEAST:
            raise InputError(f"{name} has sides below {_LEAST} pixels: enlarge it first")
    folder = start("stylise", config)
    use = jax.jit(KIND.build(*trained.shape.values()).use)
    made: dict[str, np.ndarray] = {}
    rows: dict[str, list[tuple[np.ndarray, str]]] = {}
    begun, sizes = time.perf_counter(), set()
    with folder.discarded_on_error(), progress("stylise", len(pictures), unit="pictures") as done:
        for name, picture in pictures.items():
            if config.size:
                picture = pj.images.resize(picture, fitted(picture, config.size))
            made[name] = stylised(use, trained.params, picture)
            folder.write_image(f"{file_name(name)}.png", made[name])
            sizes.add(picture.shape)
            if len(rows) < _SHOWN:
                rows[name] = [(picture, "given"), (made[name], "in the style")]
            done()
    seconds = time.perf_counter() - begun
    report = Report(
        "Pictures in a style",
        f"By a network trained on the style {trained.loss}: {len(pictures)} pictures in "
        f"{seconds:.1f} s, with a program compiled for each of {len(sizes)} sizes.",
    )
    report.pictures(rows)
    report.how_it_was_made(config)
    report.write(folder.path / "report.html")
    console.print(f"pictures: {folder.path}")
    console.print(f"report: {folder.path / 'report.html'}")
    return made
