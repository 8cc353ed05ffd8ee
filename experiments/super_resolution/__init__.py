"""Super-resolution: a network that makes pictures larger, under any distance.

It is trained under l1 first. Other losses go on from there, side by side: what is right on average
becomes what looks right, and PSNR pays for it. Low-resolution pictures are made from large ones, on
the fly; test pictures are judged by PSNR and SSIM as the field does, and by distances.

    perceptual-jax super-resolution                     # embedded photographs
    perceptual-jax super-resolution --preset quick      # about a minute
    perceptual-jax super-resolution --data photos/ --test Set5/ Set14/
    perceptual-jax super-resolution --data photos/ --losses l1 "l1 + 0.05 * lpips-vgg + adversary"
    perceptual-jax upscale my-photo.jpg --network runs/super-resolution/NAME

With --data of 1000 photographs of 224 pixels, 4 times larger; PSNR (dB) and LPIPS (AlexNet):

    |                | Set5  |       | Set14 |       |
    |----------------|------:|------:|------:|------:|
    | bicubic        | 28.43 | .3433 | 26.09 | .4398 |
    | l1             | 30.96 | .1943 | 27.88 | .3070 |
    | l1 + lpips-vgg | 30.54 | .1388 | 27.64 | .2415 |

A part three times as large goes on to .1223 and 30.21 dB on Set5, and draws a grid that one sees;
as it is, the grid is faint.

References:
  C. Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
  Network", CVPR 2017, https://arxiv.org/abs/1609.04802
  J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
  Super-Resolution", ECCV 2016, https://arxiv.org/abs/1603.08155
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import perceptual_jax as pj
from experiments.common import options
from experiments.common.critic import Critic
from experiments.common.crops import learned_from, pictures_to_judge, sizes_of
from experiments.common.film import write_frame
from experiments.common.generators import network
from experiments.common.judged import Judged
from experiments.common.loop import interruptible, stoppable
from experiments.common.losses import parsed
from experiments.common.run_folder import RunFolder, resumed, start
from experiments.common.staged import Outcome, Staged, plan_of
from experiments.super_resolution.config import PRESETS, Config, check
from experiments.super_resolution.judging import judge_by, luma_psnr
from experiments.super_resolution.networks import KIND, Enlarger, enlarged, enlarger
from experiments.super_resolution.pairs import Pairs, small
from experiments.super_resolution.report import detail, write

__all__ = ["PRESETS", "Config", "run"]

_WATCHED, _WATCHED_SIDE = 4, 32
"""Of how many test pictures crops are watched while training, and their side before."""


def run(config: Config) -> dict[str, Outcome]:
    """Trains under every loss, and writes the run's folder.

    Returns:
      `{loss: Outcome}`.

    Raises:
      InputError: for options and data that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("super-resolution", config)
    check(config)
    side = config.crop * config.scale
    sums = parsed(config.losses, side)
    measures = options.made(config.measures, 64, "--measures") if config.measures else []
    files = learned_from(config.data, side)
    tests = pictures_to_judge(config.test, config.scale)
    folder = start(
        "super-resolution",
        config,
        distances=[*measures, *(distance for total in sums for distance in total.distances)],
    )
    folder.same_data(sizes_of(files, config.data))
    with interruptible() as asked_to_stop:
        staged = _staged(config, files, tests, folder, asked_to_stop)
        outcomes = staged.under_each(sums, KIND, config)
        judged = _judged(config, measures, tests, outcomes, folder, asked_to_stop)
    write(config, folder, outcomes, judged, len(files))
    return outcomes


def _staged(
    config: Config,
    files: list,
    tests: dict[str, dict[str, np.ndarray]],
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> Staged:
    """The trainings; test pictures are watched on the way."""
    pairs = Pairs(
        files, crop=config.crop, scale=config.scale, resizer=config.resizer, seed=config.seed
    )
    made_by = network(_module(config), (1, config.crop, config.crop, 3))
    side = config.crop * config.scale
    use, (given, wanted) = jax.jit(made_by.use), _watched(config, tests)

    def watch(loss: str, step: int, params: Any) -> dict[str, Any]:
        made = pj.images.to_uint8(use(params, {}, np.float32(1 / 255) * given))
        write_frame(folder, loss, step, made, wanted)
        each = zip(made, wanted, strict=True)
        return {"psnr": float(np.mean([luma_psnr(image, target) for image, target in each]))}

    return Staged(
        made_by,
        pairs.batch,
        plan_of(config),
        untrained=lambda given: enlarged(given, config.scale),
        critic=network(Critic(), (1, side, side, 3)),
        watch=watch,
        folder=folder,
        asked_to_stop=asked_to_stop,
    )


def _module(config: Config) -> Enlarger:
    return Enlarger(config.scale, config.blocks, config.width)


def _watched(
    config: Config, tests: dict[str, dict[str, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Crops of the first test pictures, small and as they should be: uint8 [n, h, w, 3]."""
    pictures = [picture for each in tests.values() for picture in each.values()][:_WATCHED]
    least = min(min(picture.shape[:2]) for picture in pictures)
    side = min(_WATCHED_SIDE * config.scale, least // config.scale * config.scale)
    wanted = []
    for picture in pictures:
        top, left = detail(picture, side, config.scale)
        wanted.append(picture[top : top + side, left : left + side])
    given = [small(image, config.scale, config.resizer) for image in wanted]
    return np.stack(given), np.stack(wanted)


def _judged(
    config: Config,
    measures: list[pj.Distance],
    tests: dict[str, dict[str, np.ndarray]],
    outcomes: dict[str, Outcome],
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> dict[str, dict[str, Judged]]:
    """Every test picture made small, enlarged by each network, and judged."""
    judge = judge_by(measures, scale=config.scale, seed=config.seed)
    enlarge = enlarger(_module(config))
    found: dict[str, dict[str, Judged]] = {name: {} for name in tests}
    count = sum(map(len, tests.values()))
    with stoppable(
        "test pictures", count, unit="pictures", folder=folder, asked_to_stop=asked_to_stop
    ) as advance:
        for name, pictures in tests.items():
            for each, wanted in pictures.items():
                given = small(wanted, config.scale, config.resizer)
                made = {"bicubic": pj.images.resize(given, wanted.shape[:2])}
                made |= {loss: enlarge(o.params, given) for loss, o in outcomes.items()}
                values = {method: judge(image, wanted) for method, image in made.items()}
                found[name][each] = Judged(wanted, given, made, values)
                advance()
    return found
