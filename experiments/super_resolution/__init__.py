"""Super-resolution: a network that makes pictures larger, under any distance.

It is trained under l1 first. Other losses go on from there, side by side: what is right on average
becomes what looks right, and PSNR pays for it. Low-resolution pictures are made from large ones, on
the fly; test pictures are judged by PSNR and SSIM as the field does, and by distances.

    perceptual-jax super-resolution                     # embedded photographs
    perceptual-jax super-resolution --preset quick      # about a minute
    perceptual-jax super-resolution --data photos/ --test Set5/ Set14/
    perceptual-jax super-resolution --data photos/ --losses l1 "l1 + 0.05 * lpips-vgg + adversary"
    perceptual-jax upscale my-photo.jpg --network runs/super-resolution/NAME

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
import optax

import perceptual_jax as pj
from experiments.common import options
from experiments.common.generators import network
from experiments.common.loop import Interrupted, interruptible
from experiments.common.progress import progress
from experiments.common.run_folder import RunFolder, file_name, resumed, start
from experiments.common.training import Adversary, Method, Schedule, Source, State, train
from experiments.super_resolution.config import PRESETS, Config, check
from experiments.super_resolution.crops import Crops, learned_from, pictures_to_judge, small
from experiments.super_resolution.judging import judge_by, psnr
from experiments.super_resolution.losses import Sum, parsed, weighed
from experiments.super_resolution.networks import Critic, Enlarger, enlarged
from experiments.super_resolution.report import Judged, Outcome, detail, write
from experiments.super_resolution.saved import Saved, enlarger
from experiments.super_resolution.saved import write as write_network

__all__ = ["PRESETS", "Config", "run"]

_PIXELS = "l1"
"""The loss that all others begin with."""

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
    with interruptible() as asked_to_stop:
        training = Training(config, files, tests, folder, asked_to_stop)
        outcomes = {total.name: training.under(total) for total in sums}
        judged = _judged(config, measures, tests, outcomes, folder, asked_to_stop)
    write(config, folder, outcomes, judged, len(files))
    return outcomes


class Training:
    """Trainings that all begin with the same one, under l1."""

    def __init__(
        self,
        config: Config,
        files: list,
        tests: dict[str, dict[str, np.ndarray]],
        folder: RunFolder,
        asked_to_stop: Callable[[], bool],
    ):
        """Prepares them; nothing is trained yet."""
        self._config, self._folder, self._asked_to_stop = config, folder, asked_to_stop
        self._crops = Crops(
            files,
            crop=config.crop,
            scale=config.scale,
            resizer=config.resizer,
            seed=config.seed,
        )
        self._module = Enlarger(config.scale, config.blocks, config.width)
        self._network = network(self._module, (1, config.crop, config.crop, 3))
        self._use = jax.jit(self._network.use)
        self._watched = _watched(config, tests)
        self._begun: tuple[Any, list[dict[str, Any]]] | None = None

    def under(self, total: Sum) -> Outcome:
        """What a loss comes to; the network is written into the run's folder."""
        params, metrics = self._beginning()
        loss = _PIXELS
        if total.name != _PIXELS:
            loss, params, further = self._further(total, params)
            metrics = [*metrics, *further]
        path = self._folder.path / f"network-{file_name(total.name)}.safetensors"
        write_network(path, Saved(total.name, self._module, params))
        return Outcome(loss, params, metrics)

    def _beginning(self) -> tuple[Any, list[dict[str, Any]]]:
        if self._begun is None:
            config = self._config
            rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
            method = Method(self._network, pj.make(_PIXELS), optax.adam(rate), clip=config.clip)
            self._begun = self._trained(method, _PIXELS, config.steps)
        return self._begun

    def _further(self, total: Sum, params: Any) -> tuple[str, Any, list[dict[str, Any]]]:
        """Its loss with weights, what it trained, and what it logged."""
        config = self._config
        example = self._crops.batch(0, config.batch)
        given, wanted = (np.float32(1 / 255) * images for images in example)
        distance = weighed(
            total, np.asarray(enlarged(given, config.scale)), wanted, seed=config.seed
        )
        rate = optax.cosine_decay_schedule(config.further_learning_rate, config.further_steps)
        method = Method(
            self._network,
            distance,
            optax.adam(rate),
            clip=config.clip,
            terms=tuple(each.name for each in total.distances) if len(total.distances) > 1 else (),
        )
        name = distance.name
        if total.adversary:
            critic = network(Critic(), (1, *wanted.shape[1:]))
            method = method._replace(
                adversary=Adversary(critic, optax.adam(rate, b1=0.5), total.adversary)
            )
            name += f" + {total.adversary:g} * adversary"
        return name, *self._trained(
            method, total.name, config.further_steps, after=config.steps, first=params
        )

    def _trained(
        self, method: Method, name: str, steps: int, *, after: int = 0, first: Any = None
    ) -> tuple[Any, list[dict[str, Any]]]:
        """What was trained, and what was logged, with steps counted from the first one of all."""
        config = self._config

        def watch(step: int, state: State) -> dict[str, Any]:
            params = jax.device_get(state.params)
            given, wanted = self._watched
            made = pj.images.to_uint8(self._use(params, {}, np.float32(1 / 255) * given))
            self._folder.write_image(
                f"{file_name(name)}-step-{step}.png", pj.images.grid([[*made], [*wanted]])
            )
            pairs = zip(made, wanted, strict=True)
            return {"psnr": float(np.mean([psnr(image, target) for image, target in pairs]))}

        state, metrics = train(
            method,
            Source(lambda step: self._crops.batch(after + step, config.batch)),
            Schedule(steps, config.batch, config.snapshot_every, config.seed),
            key=jax.random.fold_in(jax.random.key(config.seed), 7),
            label={"under": name},
            folder=self._folder,
            asked_to_stop=self._asked_to_stop,
            first=None if first is None else (first, {}),
            snapshot=watch,
        )
        return state.params, [{**line, "step": after + line["step"]} for line in metrics]


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
    enlarge = enlarger(Enlarger(config.scale, config.blocks, config.width))
    found: dict[str, dict[str, Judged]] = {name: {} for name in tests}
    count = sum(map(len, tests.values()))
    with progress("test pictures", count, unit="pictures") as advance:
        for name, pictures in tests.items():
            for each, wanted in pictures.items():
                if asked_to_stop():
                    raise Interrupted(
                        f"stopped at the test pictures; go on with: {folder.resume_command}"
                    )
                given = small(wanted, config.scale, config.resizer)
                made = {"bicubic": pj.images.resize(given, wanted.shape[:2])}
                made |= {loss: enlarge(o.params, given) for loss, o in outcomes.items()}
                values = {method: judge(image, wanted) for method, image in made.items()}
                found[name][each] = Judged(wanted, made, values)
                advance()
    return found
