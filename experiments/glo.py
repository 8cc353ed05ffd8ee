"""Generative latent optimisation: a generator and a code for every image, learned together.

    min over weights and codes of mean_i d(generator(code_i), image_i)

There is no encoder and no adversary: the distance alone says what the images are to look like. What
was learned is then judged by images held out, whose codes are sought with the generator as it is;
and by samples, whose codes are drawn as the learned ones lie.

    perceptual-jax glo                     # embedded pictures, some minutes on 2 cores
    perceptual-jax glo --preset quick      # about a minute
    perceptual-jax glo --preset paper --data FOLDER --distances l2 lap1 vgg16

References:
  P. Bojanowski, A. Joulin, D. Lopez-Paz, A. Szlam, "Optimizing the Latent Space of Generative
  Networks", ICML 2018, https://arxiv.org/abs/1707.05776
  Y. Hoshen, K. Li, J. Malik, "Non-Adversarial Image Synthesis with Generative Latent Nearest
  Neighbors", CVPR 2019, https://arxiv.org/abs/1812.08985 (codes drawn by IMLE)
  A. Radford, L. Metz, S. Chintala, "Unsupervised Representation Learning with Deep Convolutional
  Generative Adversarial Networks", ICLR 2016, https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import perceptual_jax as pj
from experiments.common import hosts
from experiments.common.batches import floats, in_batches
from experiments.common.code_table import CodeTable, code_table, move, not_yet_moved
from experiments.common.film import write_frame
from experiments.common.generators import (
    ComputedIn,
    Generator,
    Network,
    network,
    parameter_count,
    widths,
)
from experiments.common.learned import Pictures
from experiments.common.loop import stoppable
from experiments.common.networks import Weights
from experiments.common.options import check_bounds
from experiments.common.outcomes import INTERPOLATED, SHOWN, Outcome
from experiments.common.progress import Advance
from experiments.common.reconstruction import (
    Judge,
    introduction,
    under_each,
    warmed_up,
)
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, resumed
from experiments.common.samplers import Kind, drawn, line, unit
from experiments.common.training import Codes, Method, Schedule, State, train
from perceptual_jax._typing import Array
from perceptual_jax.statistics import relative_sharpness

__all__ = ["PRESETS", "Config", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax glo`."""

    data: str = "embedded"
    """"embedded" (views of a few photographs, moved and bent), a folder of images, or
    "tfds:name/split", of a data set prepared as array records."""
    distances: tuple[str, ...] = ("l2", "mmd++")
    """What to learn under, one after the other: distances of the catalogue, as names or calls,
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
    code_deviation: float = 0.01
    """The standard deviation of the numbers that codes begin with."""
    unit_norm: bool = False
    """Scale codes to length 1 after every step."""
    alternate: bool = False
    """Move a batch's codes first, then the generator by its gradient there; else both at once."""
    width: float = 0.5
    """What the published generator's numbers of channels are multiplied by."""
    dtype: ComputedIn = "float32"
    """What the generator computes in: bfloat16 keeps fewer bytes, and some accelerators are fast in
    it. Weights, codes, running averages, optimisers and losses stay float32."""
    warm_up: int = 10
    """How often every image is seen at first, under l2 for all distances: features of a network
    alone give grey and wrong colours for hundreds of steps."""
    epochs: int = 40
    """How often every image is seen afterwards."""
    batch: int = 16
    """How many images a step takes."""
    microbatches: int = 1
    """In how many parts a step takes its batch, to save memory."""
    learning_rate: float = 0.01
    """Of the codes' Adam, with betas .5 and .999; a tenth of it is the generator's."""
    decay: float = 0.75
    """What both rates are multiplied by ..."""
    decay_every: int = 25
    """... every so many epochs."""
    clip: float = 0.0
    """The greatest norm of the generator's gradient, which is scaled down to it; 0 for any."""
    held_out_steps: int = 100
    """How many steps of Adam seek the codes of held-out images."""
    samplers: tuple[Kind, ...] = ("normal", "imle", "gmmn")
    """How codes are drawn: normal with the learned codes' covariance, or made of noise by a network
    fitted to them: IMLE's, GMMN's."""
    sampler_steps: int = 2000
    """How many steps of Adam fit such a network."""
    samples: int = 128
    """How many samples of each sampler are judged."""
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
    "quick": Config(
        images=160, size=32, epochs=50, held_out_steps=60, sampler_steps=1000, samples=64
    ),
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
        sampler_steps=20_000,
        samples=1024,
        snapshot_every=500,
    ),
}


# --- The method ----------------------------------------------------------------------------


def sought_codes(
    config: Config,
    generator: Network,
    distance: pj.Distance,
    state: State,
    learned: np.ndarray,
    images: np.ndarray,
    advance: Advance,
) -> np.ndarray:
    """The codes of images that were not learned from, the generator as it is: [n, c].

    Every code begins at the mean of the learned codes and takes steps of the Adam that they took.

    Args:
      config: the run's.
      generator: the network.
      distance: to the images.
      state: what was learned.
      learned: codes, [m, c].
      images: [n, h, w, 3] in [0, 1].
      advance: is told of the images' steps.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), 4)
    # The draws that it was learned under.
    context = (distance.init(jax.random.fold_in(key, 0)), state.params, state.running)

    def loss(codes: Array, context: tuple, target: Any) -> Array:
        params, weights, running = context
        made = generator.use(weights, running, codes)
        return distance.compare(params, distance.embed(params, made), target).sum()

    @partial(jax.jit, donate_argnums=0)
    def step(table: CodeTable, context: tuple, target: Any) -> CodeTable:
        gradient = jax.grad(loss)(table.codes, context, target)
        rows = jnp.arange(len(table.codes))
        return move(table, rows, gradient, config.learning_rate, unit_norm=config.unit_norm)

    embed = jax.jit(lambda params, images: distance.embed(params, images))

    def codes_of(part: np.ndarray) -> np.ndarray:
        n = len(part)
        still = code_table(key, n, config.code, deviation=0.0, multiple=1)
        table = still._replace(codes=still.codes + learned.mean(axis=0)[None])
        target = embed(context[0], jnp.asarray(part))
        for _ in range(config.held_out_steps):
            table = jax.block_until_ready(step(table, context, target))
            advance(n)
        return np.asarray(table.codes)

    return in_batches(codes_of, images, _batch_of(config, images))


def _batch_of(config: Config, images: np.ndarray) -> int:
    return min(config.batch, len(images))


def learn_under(
    config: Config,
    distance: pj.Distance,
    learned: Pictures,
    held: Pictures,
    judge: Judge,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> Outcome:
    """Learns under one distance, and looks at what became of it."""
    schedule = Schedule(
        config.epochs, config.batch, config.snapshot_every, config.seed, config.keep
    )
    count = len(learned.images)
    decay_steps = schedule.steps(count, config.decay_every)
    code_rate, weight_rate = (
        optax.exponential_decay(rate, decay_steps, config.decay, staircase=True)
        for rate in (config.learning_rate, config.learning_rate / 10)
    )
    generator = network(Generator(config.size, config.width, config.dtype), (2, config.code))
    method = Method(
        generator,
        distance,
        optax.adam(weight_rate, b1=0.5, b2=0.999),
        codes=Codes(code_rate, config.unit_norm, config.alternate),
        clip=config.clip,
        microbatches=config.microbatches,
    )
    use = jax.jit(generator.use)
    shown = floats(learned.images[:SHOWN])

    def draw(step: int, state: State) -> dict[str, Any]:
        params, running, codes = hosts.on_host(
            (state.params, state.running, state.table.codes[: len(shown)])
        )
        made = np.asarray(use(params, running, codes))
        write_frame(folder, distance.name, step, made, shown)
        return {"sharpness": float(relative_sharpness(made, shown).mean())}

    table = partial(
        code_table,
        count=count,
        size=config.code,
        deviation=config.code_deviation,
        multiple=config.batch,
        unit_norm=config.unit_norm,
    )
    key = jax.random.fold_in(jax.random.key(config.seed), 4)
    running = partial(train, key=key, folder=folder, asked_to_stop=asked_to_stop)
    begun = warmed_up(
        partial(running, table=table), method, learned.images, schedule, config.warm_up
    )
    state, metrics = running(
        method,
        learned.images,
        schedule,
        label={"distance": distance.name},
        table=table if begun is None else lambda key: not_yet_moved(begun.table.codes),
        first=begun and (begun.params, begun.running),
        snapshot=draw,
    )

    def images_of(codes: np.ndarray) -> np.ndarray:
        return in_batches(lambda part: use(state.params, state.running, part), codes, config.batch)

    codes, wanted = state.table.codes[:count], floats(held.images)
    batch = _batch_of(config, wanted)
    total = -(-len(wanted) // batch) * batch * config.held_out_steps
    stopping = partial(stoppable, folder=folder, asked_to_stop=asked_to_stop)
    with stopping(f"{distance.name}, held out", total, unit="images") as advance:
        held_codes = sought_codes(config, generator, distance, state, codes, wanted, advance)
    total = config.sampler_steps * sum(kind != "normal" for kind in config.samplers)
    with stopping(f"{distance.name}, samplers", total, unit="steps") as advance:
        draws = drawn(
            config.samplers,
            codes,
            images_of,
            count=config.samples,
            between=INTERPOLATED,
            seed=config.seed,
            steps=config.sampler_steps,
            unit_norm=config.unit_norm,
            advance=advance,
        )
    made = images_of(held_codes)
    between = line(held_codes[0], held_codes[-1], INTERPOLATED)
    return Outcome(
        made,
        images_of(codes[:SHOWN]),
        draws.samples,
        {
            "codes": images_of(unit(between) if config.unit_norm else between),
            **draws.interpolations,
        },
        judge(made, wanted),
        metrics,
    )


# --- The run -------------------------------------------------------------------------------


def run(config: Config) -> dict[str, Outcome]:
    """Learns under every distance, and writes the run's folder.

    Returns:
      `{distance: Outcome}`.

    Raises:
      InputError: for options that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("glo", config)
    _check(config)
    return under_each("glo", config, partial(learn_under, config), partial(_introduced, config))


def _check(config: Config) -> None:
    check_bounds(
        config,
        {
            **{"images": (1, 10**9), "code": (1, 10**6), "epochs": (1, 10**6)},
            "warm_up": (0, 10**6),
            **{"batch": (2, 10**6), "microbatches": (1, 10**6), "snapshot_every": (1, 10**9)},
            **{"keep": (1, 10**6), "memory": (0, 10**6)},
            **{"learning_rate": (1e-9, 1e3), "decay": (1e-9, 1), "decay_every": (1, 10**9)},
            **{"code_deviation": (1e-9, 1e3), "clip": (0, 1e30), "held_out_steps": (1, 10**6)},
            **{"sampler_steps": (1, 10**9), "samples": (2, 10**6)},
            "seed": (0, 2**31 - 1),
        },
    )
    widths(config.size, config.width)


def _introduced(config: Config, count: int) -> Report:
    generator = network(Generator(config.size, config.width, config.dtype), (2, config.code))
    params = jax.eval_shape(generator.init, jax.random.key(0))[0]
    return Report(
        "Generative latent optimisation under several losses",
        f"A generator ({parameter_count(params):,} parameters) makes images of {config.size}x"
        f"{config.size} pixels from codes of {config.code} numbers. It was learned together with "
        f"one code for each of the same {count} images, with no encoder and no "
        f"adversary: only the loss differs from row to row.{introduction(config.warm_up)} The "
        "codes of images held out were sought afterwards, under the same loss, with the generator "
        "as it is.",
    )
