"""An autoencoder under any distance: what a loss asks a code to keep of an image.

DCGAN's encoder turns an image into a code, its generator the code into an image, and both are
trained to make that image near to the first. Under l2 what the code cannot hold becomes a blur;
under a distance that sees as people do it becomes something that looks alike.

    perceptual-jax autoencoder                     # embedded pictures, some minutes on 2 cores
    perceptual-jax autoencoder --preset quick      # about a minute
    perceptual-jax autoencoder --data FOLDER --size 128 --distances l2 mmd++ lpips-vgg

References:
  A. Radford, L. Metz, S. Chintala, "Unsupervised Representation Learning with Deep Convolutional
  Generative Adversarial Networks", ICLR 2016, https://arxiv.org/abs/1511.06434
  D. Amir, Y. Weiss, "Understanding and Simplifying Perceptual Distances", CVPR 2021.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

import perceptual_jax as pj
from experiments.common import hosts
from experiments.common.augment import Augmentation
from experiments.common.batches import floats, in_batches
from experiments.common.film import write_frame
from experiments.common.generators import Autoencoder, ComputedIn, network, parameter_count, widths
from experiments.common.learned import Pictures
from experiments.common.networks import Weights
from experiments.common.options import check_bounds
from experiments.common.outcomes import INTERPOLATED, SHOWN, Outcome
from experiments.common.reconstruction import Judge, introduction, under_each, warmed_up
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, resumed
from experiments.common.samplers import drawn, line
from experiments.common.training import Method, Schedule, State, train
from perceptual_jax.statistics import relative_sharpness

__all__ = ["PRESETS", "Config", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax autoencoder`."""

    data: str = "embedded"
    """"embedded" (views of a few photographs, moved and bent), a folder of images, or
    "tfds:name/split", of a data set prepared as array records."""
    distances: tuple[str, ...] = ("l2", "mmd++")
    """What to train under, one after the other: distances of the catalogue, as names or calls,
    and sums of them ("l1 + 0.1 * lpips-vgg"; a weight that is not given makes a part as large as
    the first)."""
    measures: tuple[str, ...] = ("l2", "ssim", "lpips-alex")
    """What to judge held-out images by, beside their sharpness."""
    images: int = 200
    """How many images at most; of embedded pictures, how many views to draw."""
    held_out: float = 0.1
    """The fraction of the images that is not learned from; each file's name decides."""
    memory: float = 4.0
    """How many GiB of images to learn from to hold in memory. More are read once, into a file in
    the run's folder that is removed when the run is done. Images held out are always in memory."""
    size: int = 64
    """Side of the images, in pixels: a power of two."""
    code: int = 128
    """How many numbers make a code."""
    width: float = 0.5
    """What the published networks' numbers of channels are multiplied by."""
    dtype: ComputedIn = "float32"
    """What the networks compute in: bfloat16 keeps fewer bytes, and some accelerators are fast in
    it. Weights, running averages, optimisers and losses stay float32."""
    warm_up: int = 10
    """How often every image is seen at first, under l2 for all distances: features of a network
    alone give grey and wrong colours for hundreds of steps."""
    epochs: int = 40
    """How often every image is seen afterwards."""
    batch: int = 16
    """How many images a step takes."""
    microbatches: int = 1
    """In how many parts a step takes its batch, to save memory."""
    learning_rate: float = 2e-3
    """Of Adam, with betas .5 and .999; it falls to 0 along half a cosine."""
    augment: tuple[Augmentation, ...] = ()
    """What is done to images by chance whenever they are seen: "mirror" swaps left and right of
    half of them, "shift" moves them by up to a 16th of their side."""
    clip: float = 0.0
    """The greatest norm of a gradient, which is scaled down to it; 0 for any."""
    samples: int = 128
    """How many samples are judged, of codes drawn from the normal distribution with the mean and
    the covariance of the learned images' codes."""
    neighbours: tuple[str, ...] = ("l2", "lpips-alex")
    """Distances under which the nearest images learned from are sought for samples."""
    feature_weights: Weights = "trained"
    """Of the VGG-16 in whose features sets of images are compared."""
    seed: int = 0
    """Of all random draws."""
    snapshot_every: int = 100
    """Save a checkpoint, log metrics and draw reconstructions every so many steps."""
    keep: int = 1
    """How many of the last checkpoints to keep, beside the one with the least loss."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(images=160, size=32, epochs=50, samples=64),
    "default": Config(),
    "paper": Config(
        distances=("l2", "mmd++", "vgg16"),
        images=10**9,
        size=128,
        code=512,
        width=1.0,
        warm_up=0,
        epochs=200,
        batch=64,
        learning_rate=2e-4,
        samples=1024,
        snapshot_every=500,
    ),
}


# --- The method ----------------------------------------------------------------------------


def train_under(
    config: Config,
    distance: pj.Distance,
    learned: Pictures,
    held: Pictures,
    judge: Judge,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> Outcome:
    """Trains under one distance, and looks at what became of it."""
    schedule = Schedule(
        config.epochs,
        config.batch,
        config.snapshot_every,
        config.seed,
        config.keep,
        config.augment,
    )
    module = Autoencoder(config.size, config.code, config.width, config.dtype)
    shape = (2, config.size, config.size, 3)
    rate = optax.cosine_decay_schedule(config.learning_rate, schedule.steps(len(learned.images)))
    method = Method(
        network(module, shape),
        distance,
        optax.adam(rate, b1=0.5, b2=0.999),
        clip=config.clip,
        microbatches=config.microbatches,
    )
    encode, generate, both = (
        jax.jit(network(module, shape, name).use) for name in ("encode", "generate", None)
    )
    wanted = floats(held.images)

    def draw(step: int, state: State) -> dict[str, Any]:
        made = np.asarray(both(*_on_host(state), wanted[:SHOWN]))
        write_frame(folder, distance.name, step, made, wanted[:SHOWN])
        return {"sharpness": float(relative_sharpness(made, wanted[:SHOWN]).mean())}

    key = jax.random.fold_in(jax.random.key(config.seed), 4)
    running = partial(train, key=key, folder=folder, asked_to_stop=asked_to_stop)
    begun = warmed_up(running, method, learned.images, schedule, config.warm_up)
    state, metrics = running(
        method,
        learned.images,
        schedule,
        label={"distance": distance.name},
        first=begun and (begun.params, begun.running),
        snapshot=draw,
    )

    def codes_of(images: np.ndarray) -> np.ndarray:
        return in_batches(
            lambda part: encode(state.params, state.running, floats(part)), images, config.batch
        )

    def images_of(codes: np.ndarray) -> np.ndarray:
        return in_batches(
            lambda part: generate(state.params, state.running, part), codes, config.batch
        )

    codes = codes_of(learned.images)
    made = images_of(held_codes := codes_of(held.images))
    draws = drawn(
        ("normal",), codes, images_of, count=config.samples, between=INTERPOLATED, seed=config.seed
    )
    between = line(held_codes[0], held_codes[-1], INTERPOLATED)
    return Outcome(
        made,
        images_of(codes[:SHOWN]),
        draws.samples,
        {"codes": images_of(between), **draws.interpolations},
        judge(made, wanted),
        metrics,
    )


def _on_host(state: State) -> tuple[Any, Any]:
    return hosts.on_host((state.params, state.running))


# --- The run -------------------------------------------------------------------------------


def run(config: Config) -> dict[str, Outcome]:
    """Trains under every distance, and writes the run's folder.

    Returns:
      `{distance: Outcome}`.

    Raises:
      InputError: for options that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("autoencoder", config)
    _check(config)
    return under_each(
        "autoencoder", config, partial(train_under, config), partial(_introduced, config)
    )


def _check(config: Config) -> None:
    check_bounds(
        config,
        {
            **{"images": (1, 10**9), "code": (1, 10**6), "epochs": (1, 10**6)},
            "warm_up": (0, 10**6),
            **{"batch": (2, 10**6), "microbatches": (1, 10**6), "snapshot_every": (1, 10**9)},
            **{"keep": (1, 10**6), "memory": (0, 10**6)},
            **{"learning_rate": (1e-9, 1e3), "clip": (0, 1e30), "seed": (0, 2**31 - 1)},
            "samples": (2, 10**6),
        },
    )
    widths(config.size, config.width)


def _introduced(config: Config, count: int) -> Report:
    module = Autoencoder(config.size, config.code, config.width, config.dtype)
    shape = (2, config.size, config.size, 3)
    params = jax.eval_shape(network(module, shape).init, jax.random.key(0))[0]
    return Report(
        "Autoencoders, each trained under another loss",
        f"Every image of {config.size}x{config.size} pixels goes through a code of {config.code} "
        f"numbers and comes out again. The networks ({parameter_count(params):,} parameters) are "
        f"alike, begin alike, and see the same {count} images in the same order; "
        "only the loss that they are trained under differs." + introduction(config.warm_up),
    )
