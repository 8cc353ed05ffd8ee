"""The generalised image mean: the image closest to a set of similar images, under each distance.

    min over z of mean_i d(z, x_i)

Under l2 it is the pixel mean, a blur. Under a distance that sees as people do it is a sharp
picture of what the images have in common.

    perceptual-jax image-mean                     # embedded images, some minutes on 2 cores
    perceptual-jax image-mean --preset quick      # about a minute
    perceptual-jax image-mean --preset shifts     # views moved further: when does each give up?
    perceptual-jax image-mean --preset textures   # pieces of a texture, from noise, coarse to fine
    perceptual-jax image-mean --data FOLDER_OF_FOLDERS --distances l2 lpips-vgg

References:
  D. Amir, Y. Weiss, "Understanding and Simplifying Perceptual Distances", CVPR 2021.
"""

from __future__ import annotations

import numpy as np

import perceptual_jax as pj
from experiments.common.loop import interruptible
from experiments.common.options import made
from experiments.common.run_folder import resumed, start
from experiments.image_mean.config import PRESETS, Config, check
from experiments.image_mean.endurance import JUDGE
from experiments.image_mean.method import Mean, embed_targets, mean_loss, optimise, sizes_of
from experiments.image_mean.report import add_means, write
from experiments.image_mean.sets import sets_of
from perceptual_jax.errors import InputError

__all__ = [
    "PRESETS",
    "Config",
    "Mean",
    "add_means",
    "check",
    "embed_targets",
    "mean_loss",
    "run",
    "sets_of",
]


def run(config: Config) -> dict[str, Mean]:
    """Computes the means of all sets under all distances, and writes the run's folder.

    Returns:
      `{distance: Mean}`.

    Raises:
      InputError: for options that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("image-mean", config)
    check(config)
    distances = _made(config)
    sets = sets_of(config)
    judges = [pj.make(JUDGE)] if config.kind == "shifts" else []
    folder = start("image-mean", config, distances=[*distances, *judges])
    targets = np.stack(list(sets.values()))
    means = {}
    with interruptible() as asked_to_stop:
        for distance in distances:
            means[distance.name] = optimise(config, distance, targets, folder, asked_to_stop)
    write(config, folder, sets, means)
    return means


def _made(config: Config) -> list[pj.Distance]:
    """The distances, which must take the images of the coarsest scale."""
    coarsest = sizes_of(config)[0][0]
    try:
        return made(config.distances, coarsest)
    except InputError as error:
        if config.scales == 1:
            raise
        raise InputError(
            f"{error} (the coarsest of --scales {config.scales}, of --size {config.size})"
        ) from None
