"""Fast style transfer: a network that draws photographs in one style, each in one pass.

    perceptual-jax fast-style --style painting.jpg --data photos/
    perceptual-jax fast-style --preset quick           # about a minute: too few steps to be good
    perceptual-jax stylise photos/ --network runs/fast-style/NAME

References:
  J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
  Super-Resolution", ECCV 2016, https://arxiv.org/abs/1603.08155
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
import numpy as np
import optax

import perceptual_jax as pj
from experiments.common import network_files, options
from experiments.common.crops import Crops, learned_from, sizes_of
from experiments.common.loop import interruptible
from experiments.common.network_files import Saved
from experiments.common.paintings import PAINTINGS
from experiments.common.pictures import fitted, named_pictures
from experiments.common.run_folder import file_name, resumed, start
from experiments.common.training import Batch, Method, Schedule, Source, State, train
from experiments.fast_style.config import PRESETS, Config, check
from experiments.fast_style.exported import write_program
from experiments.fast_style.loss import style_loss
from experiments.fast_style.networks import KIND, stylised
from experiments.fast_style.report import write
from experiments.style_transfer.loss import any_size
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "run"]

_TIMED = 3


def run(config: Config) -> dict[str, np.ndarray]:
    """Trains a network for the style, and writes the run's folder.

    Returns:
      `{test picture: uint8 [h, w, 3], in the style}`.

    Raises:
      InputError: for options, distances and pictures that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("fast-style", config)
    check(config)
    (content,) = options.made([config.content_distance], config.crop, "--content-distance")
    (style,) = options.made([config.style_distance], config.crop, "--style-distance")
    if not any_size(style):
        raise InputError(
            f"--style-distance: {style.name} compares images of one size; take one that does not, "
            "such as vgg16(metric='gram')"
        )
    painting = _style(config)
    tests = named_pictures("--test", config.test, ())
    files = learned_from(config.data, config.crop)
    folder = start("fast-style", config, distances=[content, style])
    folder.same_data(sizes_of(files, config.data))

    crops = Crops(files)

    def take(step: int) -> Batch:
        rng = np.random.default_rng([config.seed, 13, step])
        images = np.stack([crops.draw(config.crop, rng) for _ in range(config.batch)])
        return Batch(images, images)

    made_by = KIND.build(config.width, config.blocks)
    use = jax.jit(made_by.use)
    loss = style_loss(
        content,
        style,
        painting.astype(np.float32) / 255,
        np.float32(1 / 255) * take(0).wanted,
        weights=(config.content_weight, config.style_weight, config.variation_weight),
        key=jax.random.key(config.seed),
    )
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    method = Method(
        made_by,
        loss,
        optax.adam(rate),
        clip=config.clip,
        terms=("content", "style", "variation"),
    )
    watched_name, watched = next(iter(tests.items()))

    def watch(step: int, state: State) -> dict[str, Any]:
        image = stylised(use, jax.device_get(state.params), watched)
        folder.write_image(f"{file_name(watched_name)}-step-{step}.png", image)
        return {}

    with interruptible() as asked_to_stop:
        trained = train(
            method,
            Source(take),
            Schedule(config.steps, config.batch, config.snapshot_every, config.seed),
            key=jax.random.fold_in(jax.random.key(config.seed), 13),
            label={"style": config.style},
            folder=folder,
            asked_to_stop=asked_to_stop,
            snapshot=watch,
        )
    params = trained.state.params
    saved = Saved(config.style, KIND.shape_of(config), params)
    network_files.write(folder.path, KIND, saved)
    if config.export_size:
        size = config.export_size - config.export_size % 4
        write_program(folder.path / f"style-{size}.jax", made_by, params, size)
    drawn, seconds = {}, {}
    for name, picture in tests.items():
        made = stylised(use, params, picture)
        taken = []
        for _ in range(_TIMED):
            begun = time.perf_counter()
            stylised(use, params, picture)
            taken.append(time.perf_counter() - begun)
        drawn[name], seconds[name] = (picture, made), statistics.median(taken)
    write(config, folder, painting, drawn, seconds, params, trained.metrics, len(files))
    return {name: made for name, (_, made) in drawn.items()}


def _style(config: Config) -> np.ndarray:
    """The style, its longer side as asked for: uint8 [h, w, 3]."""
    pictures = list(named_pictures("--style", [config.style], tuple(PAINTINGS)).values())
    if len(pictures) != 1:
        raise InputError(f"--style takes one picture; {config.style} holds {len(pictures)}")
    return pj.images.resize(pictures[0], fitted(pictures[0], config.style_size))
