"""Your picture without something: filled by a network that `perceptual-jax inpaint` trained.

    perceptual-jax fill photo.jpg --mask mask.png --network runs/inpaint/NAME
    perceptual-jax fill photo.jpg --mask mask.png --network runs/inpaint/NAME --loss l1

The mask is a picture of the same size, white where the photo is to be filled. What is black there
is kept exactly.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import tyro

import perceptual_jax as pj
from experiments.common import network_files
from experiments.common.pictures import named_pictures
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import file_name, start
from experiments.inpaint.masks import read_mask, with_hole
from experiments.inpaint.networks import KIND, multiple
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "fill", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax fill`."""

    picture: tyro.conf.Positional[str]
    """An image file, or the name of an embedded picture."""
    mask: str = ""
    """An image file of the same size, white where the picture is to be filled."""
    network: str = ""
    """A run of inpaint (its folder), or one network-*.safetensors of it."""
    loss: str | None = None
    """Which of the run's networks, by the loss it was trained under; by default the last one."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""


PRESETS = {"default": Config(picture="")}

_AROUND = 4
"""How much of what surrounds the hole is looked at, in largest blocks of the network's."""


def run(config: Config) -> np.ndarray:
    """Fills the picture, and writes it into the run's folder.

    Returns:
      uint8 [h, w, 3].

    Raises:
      InputError: for a picture, mask or network that cannot be used.
    """
    trained = network_files.find(config.network, config.loss, KIND)
    pictures = named_pictures("PICTURE", [config.picture], ())
    if len(pictures) != 1:
        raise InputError(f"fill takes one picture; {config.picture} holds {len(pictures)}")
    ((name, picture),) = pictures.items()
    if not config.mask:
        raise InputError("--mask must name a picture, white where the photo is to be filled")
    mask = read_mask(config.mask, picture.shape[:2])
    folder = start("fill", config)
    with folder.discarded_on_error():
        made = fill(trained, picture, mask)
        folder.write_image(f"{file_name(name)}.png", made)
        report = Report(
            "A picture without something",
            f"Filled by a network trained under {trained.loss}; outside of the hole every pixel is "
            "as it was.",
        )
        given = with_hole(picture, mask)[..., :3]
        report.pictures({name: [(picture, "the picture"), (given, "given"), (made, "filled")]})
        report.how_it_was_made(config)
        report.write(folder.path / "report.html")
    console.print(f"picture: {folder.path}")
    console.print(f"report: {folder.path / 'report.html'}")
    return made


def fill(trained: network_files.Saved, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture with its hole filled.

    The network sees the hole and what is around it, so that a small hole in a large photo costs
    little. Where that reaches beyond the picture, the picture is mirrored.

    Args:
      trained: the network.
      picture: uint8 [h, w, 3].
      mask: bool [h, w], True somewhere.

    Returns:
      uint8 [h, w, 3].
    """
    block = multiple(trained.shape["levels"])
    edges, pads = [], []
    for axis in (0, 1):
        hole = np.flatnonzero(mask.any(axis=1 - axis))
        first, last = hole[0] - _AROUND * block, hole[-1] + 1 + _AROUND * block
        last += -(last - first) % block
        inside = slice(max(first, 0), min(last, mask.shape[axis]))
        edges.append(inside)
        pads.append((max(-first, 0), max(last - mask.shape[axis], 0)))
    window = (edges[0], edges[1])
    seen = with_hole(picture[window], mask[window])
    padded = np.pad(seen, (*pads, (0, 0)), mode="symmetric")
    use = jax.jit(KIND.build(*trained.shape.values()).use)
    made = pj.images.to_uint8(use(trained.params, {}, np.float32(1 / 255) * padded[None]))[0]
    rows, columns = (
        slice(pad[0], pad[0] + edge.stop - edge.start)
        for pad, edge in zip(pads, edges, strict=True)
    )
    filled = picture.copy()
    filled[window] = np.where(mask[window][..., None], made[rows, columns], picture[window])
    return filled
