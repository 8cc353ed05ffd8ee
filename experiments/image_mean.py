"""The generalised image mean: the image closest to a set of similar images, under each distance.

    min over z of mean_i d(z, x_i)

Under l2 it is the pixel mean, a blur. Under a distance that sees as people do it is a sharp
picture of what the images have in common.

    perceptual-jax image-mean                     # embedded images, some minutes on 2 cores
    perceptual-jax image-mean --preset quick      # about a minute
    perceptual-jax image-mean --data FOLDER_OF_FOLDERS --distances l2 lpips-vgg

References:
  D. Amir, Y. Weiss, "Understanding and Simplifying Perceptual Distances", CVPR 2021.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.common.data import image_sets
from experiments.common.loop import interruptible
from experiments.common.optimise import Problem, Schedule, adam_descent, descend
from experiments.common.options import check_bounds, made
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name, resumed, start
from perceptual_jax._typing import Array, Embedding, ImageLike, Params
from perceptual_jax.errors import InputError
from perceptual_jax.ops.filters import filter_separable, gaussian_kernel, pad_replicate
from perceptual_jax.ops.platform import on_cpu
from perceptual_jax.statistics import relative_sharpness

__all__ = ["PRESETS", "Config", "Mean", "add_means", "mean_loss", "run", "targets_of"]

Start = Literal["mean", "gray", "zeros", "blur", "noise", "split"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax image-mean`."""

    data: str = "embedded"
    """"embedded", a folder of folders (each a set of similar images), or a folder of images."""
    distances: tuple[str, ...] = ("l2", "ssim", "vgg16", "vgg16-random", "lpips-vgg")
    """Distances of the catalogue, as names or as calls: "vgg16(metric='l2')"."""
    sets: int = 4
    """How many sets, side by side."""
    images_per_set: int = 6
    """How many images of each set."""
    size: int = 128
    """Side of the images, in pixels."""
    shift: float = 3.0
    """Embedded sets: how far each view is moved, in pixels."""
    warp: float = 1.5
    """Embedded sets: how far each view is bent, in pixels."""
    start: Start = "mean"
    """What to start from: the pixel mean, mid-gray, zeros, the mean blurred, noise, or the left
    half of the first image beside the right half of the second."""
    steps: int = 150
    """How many steps of Adam."""
    learning_rate: float = 0.01
    """Of Adam, on images in [0, 1]; times 0.9 every 1000 steps."""
    redraw_every: int = 0
    """Draw the random features anew every so many steps; 0 keeps them."""
    seed: int = 0
    """Of all random draws."""
    snapshot_every: int = 50
    """Save a checkpoint and log metrics every so many steps."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(sets=2, size=96, steps=80, distances=("l2", "vgg16", "lpips-vgg")),
    "default": Config(),
    "paper": Config(steps=3000, start="noise", snapshot_every=250),
}


@dataclasses.dataclass(frozen=True)
class Mean:
    """What one distance made of the sets.

    Attributes:
      images: [sets, h, w, 3] in [0, 1].
      sharpness: [sets], gradient energy relative to the inputs.
      metrics: the lines logged on the way.
    """

    images: np.ndarray
    sharpness: np.ndarray
    metrics: list[dict[str, Any]]


# --- The method ----------------------------------------------------------------------------


def mean_loss(distance: pj.Distance) -> Any:
    """The loss of all sets at once: `((params, targets), images [s, h, w, 3]) -> [s]`.

    The targets are embedded images, leaves [s, n, ...]; each image is embedded once and compared
    with the n targets of its set.
    """

    def loss(context: tuple[Params, Embedding], images: Array) -> Array:
        params, targets = context
        embedded = distance.embed(params, images)

        def one_set(image: Embedding, set_targets: Embedding) -> Array:
            alone = jax.tree.map(lambda leaf: leaf[None], image)
            return distance.compare(params, alone, set_targets).mean()

        if not on_cpu():
            return jax.vmap(one_set)(embedded, targets)
        # Under vmap the gradient's sums over targets are slow again on CPU: a VGG step takes
        # 218 ms instead of 105.
        each = [
            one_set(*jax.tree.map(lambda leaf, i=i: leaf[i], (embedded, targets)))
            for i in range(images.shape[0])
        ]
        return jnp.stack(each)

    return loss


def embed_targets(distance: pj.Distance, params: Params, targets: Array) -> Embedding:
    """Embeds [s, n, h, w, 3], a set at a time: leaves [s, n, ...]."""
    embed = jax.jit(lambda params, images: distance.embed(params, images))
    by_set = [embed(params, images) for images in targets]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *by_set)


def starting_images(kind: Start, targets: np.ndarray, key: Array) -> np.ndarray:
    """Where the descent begins: [s, h, w, 3] from targets [s, n, h, w, 3]."""
    mean = targets.mean(axis=1)
    if kind == "mean":
        return mean
    if kind == "gray":
        return np.full_like(mean, 0.5)
    if kind == "zeros":
        return np.zeros_like(mean)
    if kind == "blur":
        padded = pad_replicate(jnp.asarray(mean), 12, 12)
        return np.asarray(filter_separable(padded, gaussian_kernel(25, 4.0)))
    if kind == "noise":
        noise = 0.5 + 0.1 * jax.random.normal(key, mean.shape, mean.dtype)
        return np.asarray(jnp.clip(noise, 0, 1))
    middle = mean.shape[2] // 2
    return np.concatenate([targets[:, 0, :, :middle], targets[:, 1, :, middle:]], axis=2)


def optimise(
    config: Config,
    distance: pj.Distance,
    targets: np.ndarray,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> Mean:
    """Runs one distance's descent, from its last checkpoint if there is one.

    Raises:
      Interrupted: when asked to stop, after saving.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    references = jnp.asarray(targets)

    def context(draw: int) -> tuple[Params, Embedding]:
        params = distance.init(jax.random.fold_in(key, draw))
        return params, embed_targets(distance, params, references)

    descent = adam_descent(mean_loss(distance), learning_rate=config.learning_rate)
    found = descend(
        Problem(descent, context),
        jnp.asarray(starting_images(config.start, targets, jax.random.fold_in(key, 2))),
        Schedule(config.steps, config.snapshot_every, config.redraw_every),
        label={"distance": distance.name},
        folder=folder,
        asked_to_stop=asked_to_stop,
        snapshot=lambda _, images: {"sharpness": _sharpness(images, references).tolist()},
    )
    return Mean(found.images, _sharpness(found.images, references), found.metrics)


def _sharpness(images: ImageLike, targets: Array) -> np.ndarray:
    return np.asarray(
        [
            relative_sharpness(image[None], same)[0]
            for image, same in zip(images, targets, strict=True)
        ]
    )


# --- The run -------------------------------------------------------------------------------


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
    distances = made(config.distances, config.size)
    sets = targets_of(config)
    folder = start("image-mean", config, distances=distances)
    targets = np.stack(list(sets.values()))
    means = {}
    with interruptible() as asked_to_stop:
        for distance in distances:
            means[distance.name] = optimise(config, distance, targets, folder, asked_to_stop)
    _write(config, folder, sets, means)
    return means


def targets_of(config: Config) -> dict[str, np.ndarray]:
    """The run's sets: `{name: [images_per_set, size, size, 3] in [0, 1]}`."""
    return image_sets(
        config.data,
        sets=config.sets,
        images_per_set=config.images_per_set,
        size=config.size,
        shift=config.shift,
        warp=config.warp,
        seed=config.seed,
    )


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    bounds = {
        **{"steps": (1, 10**9), "snapshot_every": (1, 10**9), "redraw_every": (0, 10**9)},
        **{"size": (2, 8192), "sets": (1, 10**6), "images_per_set": (1, 10**6)},
        **{"shift": (0, 1000), "warp": (0, 1000), "learning_rate": (1e-9, 1e3)},
        "seed": (0, 2**31 - 1),
    }
    check_bounds(config, bounds)
    if config.start == "split" and config.images_per_set < 2:
        raise InputError("--start split needs at least two images in a set")


def _write(
    config: Config, folder: RunFolder, sets: dict[str, np.ndarray], means: dict[str, Mean]
) -> None:
    """Pictures, results.json, the grid, the curves and the report."""
    names = list(sets)
    rows = []
    for i, name in enumerate(names):
        rows.append([*sets[name][:2], *(mean.images[i] for mean in means.values())])
        for distance, mean in means.items():
            folder.write_image(f"{file_name(name)}-{file_name(distance)}.png", mean.images[i])
    folder.write_image("grid.png", pj.images.grid(rows))
    results = {
        distance: dict(zip(names, mean.sharpness.tolist(), strict=True))
        for distance, mean in means.items()
    }
    folder.write_json("results.json", {"sharpness": results})
    report_on(config, sets, means).write(folder.path / "report.html")
    table = ", ".join(f"{d} {mean.sharpness.mean():.2f}" for d, mean in means.items())
    console.print(f"sharpness relative to the inputs: {table}")
    console.print(f"report: {folder.path / 'report.html'}")


def report_on(config: Config, sets: dict[str, np.ndarray], means: dict[str, Mean]) -> Report:
    """The report's page."""
    report = Report(
        "Generalised image mean",
        "Each row is a set of similar images, and the one image that is closest to all of them "
        "under each distance. A distance that compares pixels blurs what does not line up; one "
        "that sees as people do keeps it sharp. The number is the sharpness: gradient energy "
        "relative to the inputs, 1 is as sharp as they are.",
    )
    add_means(report, sets, means)
    report.heading("On the way")
    report.figure(
        curves(means), "Loss relative to the first logged value, and sharpness, against steps"
    )
    report.how_it_was_made(config)
    return report


def add_means(report: Report, sets: dict[str, np.ndarray], means: dict[str, Mean]) -> None:
    """The grid of inputs and means, and the table of their sharpness."""
    report.pictures(
        {
            name: [
                *((image, f"input {i + 1}") for i, image in enumerate(images[:2])),
                *(
                    (mean.images[row], f"{distance} · sharpness {mean.sharpness[row]:.2f}")
                    for distance, mean in means.items()
                ),
            ]
            for row, (name, images) in enumerate(sets.items())
        }
    )
    report.table(
        ["sharpness", *sets, "mean"],
        [
            [distance, *(f"{v:.3f}" for v in mean.sharpness), f"{mean.sharpness.mean():.3f}"]
            for distance, mean in means.items()
        ],
    )


def curves(means: dict[str, Mean]) -> Figure:
    """Loss and sharpness of every distance against steps."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for distance, mean in means.items():
        if not mean.metrics:
            continue
        steps = [line["step"] for line in mean.metrics]
        losses = np.array([np.mean(line["loss"]) for line in mean.metrics])
        left.plot(steps, losses / max(losses[0], 1e-30), label=distance)
        right.plot(steps, [np.mean(line["sharpness"]) for line in mean.metrics], label=distance)
    left.set(xlabel="step", ylabel="loss / first logged loss")
    right.set(xlabel="step", ylabel="sharpness relative to inputs")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
