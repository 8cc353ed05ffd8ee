"""Your pictures, enlarged by a network that `perceptual-jax super-resolution` trained.

    perceptual-jax upscale photo.jpg photos/ --network runs/super-resolution/NAME
    perceptual-jax upscale photo.jpg --network runs/super-resolution/NAME --loss l1

Pictures of any size go through the network tile by tile; the tiles overlap by what the network
looks at, so that no seam shows.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tyro

import perceptual_jax as pj
from experiments.common import network_files
from experiments.common.options import check_bounds
from experiments.common.pictures import named_pictures
from experiments.common.progress import console, progress
from experiments.common.report import Report
from experiments.common.run_folder import file_name, start
from experiments.super_resolution.networks import KIND, Enlarger, enlarger
from experiments.super_resolution.report import detail
from experiments.super_resolution.tiles import TILE

__all__ = ["PRESETS", "Config", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax upscale`."""

    pictures: tyro.conf.Positional[tuple[str, ...]]
    """Image files, folders of them, or names of embedded pictures."""
    network: str = ""
    """A run of super-resolution (its folder), or one network-*.safetensors of it."""
    loss: str | None = None
    """Which of the run's networks, by the loss it was trained under; by default the last one."""
    tile: int = TILE
    """The side of a tile, in pixels of the picture given: less takes less memory."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""


PRESETS = {"default": Config(pictures=())}

_SHOWN, _SIDE, _ZOOM = 20, 48, 8
"""How many pictures the report shows, the side of their crops, and how much larger they become."""


def run(config: Config) -> dict[str, np.ndarray]:
    """Enlarges the pictures, and writes them into the run's folder.

    Returns:
      `{name: uint8 [scale * h, scale * w, 3]}`.

    Raises:
      InputError: for pictures or networks that cannot be used.
    """
    check_bounds(config, {"tile": (16, 10**6)})
    trained = network_files.find(config.network, config.loss, KIND)
    pictures = named_pictures("PICTURES", config.pictures, ())
    folder = start("upscale", config)
    module = Enlarger(**trained.shape)
    enlarge = enlarger(module, config.tile)
    made: dict[str, np.ndarray] = {}
    report = Report(
        f"Pictures made {module.scale} times as large",
        f"By a network of {module.blocks} blocks of {module.width} channels, trained under "
        f"{trained.loss}. The square with most detail of each picture: as given, enlarged by "
        "Pillow's bicubic filter, and by the network.",
    )
    rows: dict[str, list[tuple[np.ndarray, str]]] = {}
    with folder.discarded_on_error(), progress("upscale", len(pictures), unit="pictures") as done:
        for name, picture in pictures.items():
            made[name] = enlarge(trained.params, picture)
            folder.write_image(f"{file_name(name)}.png", made[name])
            if len(rows) < _SHOWN:
                rows[name] = _crops(picture, made[name], module.scale)
            done()
    report.pictures(rows)
    report.how_it_was_made(config)
    report.write(folder.path / "report.html")
    console.print(f"by the network that was trained under {trained.loss}")
    console.print(f"pictures: {folder.path}")
    console.print(f"report: {folder.path / 'report.html'}")
    return made


def _crops(picture: np.ndarray, made: np.ndarray, scale: int) -> list[tuple[np.ndarray, str]]:
    side = min(_SIDE, *(length - 1 for length in picture.shape[:2]))
    top, left = detail(picture, side, 1) if side > 0 else (0, 0)
    side = max(side, 1)
    bicubic = pj.images.resize(picture, made.shape[:2])
    factors = {"given": (picture, 1), "bicubic": (bicubic, scale), "network": (made, scale)}
    crops = []
    for label, (image, factor) in factors.items():
        edges = (factor * top, factor * (top + side)), (factor * left, factor * (left + side))
        crop = image[slice(*edges[0]), slice(*edges[1])]
        times = max(_ZOOM // factor, 1)
        crops.append((np.repeat(np.repeat(crop, times, axis=0), times, axis=1), label))
    return crops
