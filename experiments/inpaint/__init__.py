"""Inpainting: a network that fills what is missing of a picture, under any distance.

It is trained under l1 first. Other losses go on from there, side by side. Outside of the hole a
picture is kept exactly, so any distance between whole pictures judges what was put into it.

    perceptual-jax inpaint                     # embedded photographs
    perceptual-jax inpaint --preset quick      # about a minute
    perceptual-jax inpaint --data photos/ --test kodak/ --masks strokes
    perceptual-jax fill my-photo.jpg --mask its-mask.png --network runs/inpaint/NAME

References:
  D. Pathak et al., "Context Encoders: Feature Learning by Inpainting", CVPR 2016,
  https://arxiv.org/abs/1604.07379
  G. Liu et al., "Image Inpainting for Irregular Holes Using Partial Convolutions", ECCV 2018,
  https://arxiv.org/abs/1804.07723
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import perceptual_jax as pj
from experiments.common import options
from experiments.common.critic import Critic
from experiments.common.crops import Crops, learned_from, pictures_to_judge, sizes_of
from experiments.common.film import write_frame
from experiments.common.generators import network
from experiments.common.judged import Judged
from experiments.common.loop import interruptible, stoppable
from experiments.common.losses import parsed
from experiments.common.run_folder import RunFolder, resumed, start
from experiments.common.staged import Outcome, Staged, plan_of
from experiments.common.training import Batch
from experiments.inpaint.config import PRESETS, Config, check
from experiments.inpaint.judging import Judge, judge_by
from experiments.inpaint.masks import drawn, scattered, with_hole
from experiments.inpaint.networks import KIND, multiple, smooth
from experiments.inpaint.report import write

__all__ = ["PRESETS", "Config", "run"]

_WATCHED = 4
"""How many test pictures are watched while training."""


class Test(NamedTuple):
    """Test pictures with holes: squares of one side, so that they are one program.

    Attributes:
      names: (set, picture) of each.
      given: uint8 [n, side, side, 4], see `masks.with_hole`.
      wanted: uint8 [n, side, side, 3].
    """

    names: list[tuple[str, str]]
    given: np.ndarray
    wanted: np.ndarray

    @property
    def masks(self) -> np.ndarray:
        """Bool [n, side, side]."""
        return self.given[..., 3] > 0


def run(config: Config) -> dict[str, Outcome]:
    """Trains under every loss, and writes the run's folder.

    Returns:
      `{loss: Outcome}`.

    Raises:
      InputError: for options and data that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("inpaint", config)
    check(config)
    sums = parsed(config.losses, config.crop)
    measures = options.made(config.measures, 64, "--measures") if config.measures else []
    judge = judge_by(measures, seed=config.seed)
    files = learned_from(config.data, config.crop)
    test = _test(config)
    folder = start(
        "inpaint",
        config,
        distances=[*measures, *(distance for total in sums for distance in total.distances)],
    )
    folder.same_data(sizes_of(files, config.data))
    with interruptible() as asked_to_stop:
        staged = _staged(config, files, test, folder, asked_to_stop)
        outcomes = staged.under_each(sums, KIND, config)
        judged = _judged(config, judge, test, outcomes, folder, asked_to_stop)
    write(config, folder, outcomes, judged, len(files))
    return outcomes


def _test(config: Config) -> Test:
    """The middle squares of the test pictures, all of the side of the least, with their holes."""
    sets = pictures_to_judge(config.test, multiple(config.levels))
    named = {(name, each): image for name, found in sets.items() for each, image in found.items()}
    least = min(min(image.shape[:2]) for image in named.values())
    side = least // multiple(config.levels) * multiple(config.levels)
    squares, given = [], []
    for place, image in enumerate(named.values()):
        top, left = ((length - side) // 2 for length in image.shape[:2])
        squares.append(image[top : top + side, left : left + side])
        mask = scattered(config.masks, (side, side), config.crop, (config.seed, 11, place))
        given.append(with_hole(squares[-1], mask))
    return Test(list(named), np.stack(given), np.stack(squares))


class Holes:
    """Batches of crops with holes, by (seed, step) alone."""

    def __init__(self, config: Config, files: list[Path]):
        """Crops of these files, and holes as the options say."""
        self._config, self._crops = config, Crops(files)

    def batch(self, step: int, count: int) -> Batch:
        """Crops with holes uint8 [count, crop, crop, 4], and whole [count, crop, crop, 3]."""
        side = self._config.crop
        rng = np.random.default_rng([self._config.seed, 10, step])
        wanted = [self._crops.draw(side, rng) for _ in range(count)]
        given = [with_hole(image, drawn(self._config.masks, side, rng)) for image in wanted]
        return Batch(np.stack(given), np.stack(wanted))


def _staged(
    config: Config,
    files: list[Path],
    test: Test,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> Staged:
    """The trainings; test pictures are watched on the way."""
    fills = KIND.build(*KIND.shape_of(config).values())
    use, watched = jax.jit(fills.use), test.given[:_WATCHED]
    wanted, masks = test.wanted[:_WATCHED], test.masks[:_WATCHED]
    inside = judge_by((), seed=config.seed)

    def watch(loss: str, step: int, params: Any) -> dict[str, Any]:
        made = pj.images.to_uint8(use(params, {}, np.float32(1 / 255) * watched))
        write_frame(folder, loss, step, made, wanted)
        each = [inside(*three)["psnr"] for three in zip(made, wanted, masks, strict=True)]
        return {"psnr": float(np.mean(each))}

    return Staged(
        fills,
        Holes(config, files).batch,
        plan_of(config),
        untrained=lambda given: smooth(given, config.levels),
        critic=network(Critic(), (1, config.crop, config.crop, 3)),
        watch=watch,
        folder=folder,
        asked_to_stop=asked_to_stop,
    )


def _judged(
    config: Config,
    judge: Judge,
    test: Test,
    outcomes: dict[str, Outcome],
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> dict[str, dict[str, Judged]]:
    """Every test picture filled by each network, and judged."""
    use = jax.jit(KIND.build(*KIND.shape_of(config).values()).use)
    filled = jax.jit(partial(smooth, levels=config.levels))
    found: dict[str, dict[str, Judged]] = {name: {} for name, _ in test.names}
    with stoppable(
        "test pictures",
        len(test.names),
        unit="pictures",
        folder=folder,
        asked_to_stop=asked_to_stop,
    ) as advance:
        for (name, each), given, wanted, mask in zip(*test, test.masks, strict=True):
            scaled = np.float32(1 / 255) * given[None]
            made = {"smooth": pj.images.to_uint8(filled(scaled))[0]}
            made |= {
                loss: pj.images.to_uint8(use(outcome.params, {}, scaled))[0]
                for loss, outcome in outcomes.items()
            }
            values = {loss: judge(image, wanted, mask) for loss, image in made.items()}
            found[name][each] = Judged(wanted, given[..., :3], made, values)
            advance()
    return found
