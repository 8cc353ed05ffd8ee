"""The image mean's loss, what its descent starts from, and the descent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.optimise import Problem, Schedule, adam_descent, coarse_to_fine, scales
from experiments.common.run_folder import RunFolder
from experiments.image_mean.config import Config, Start
from perceptual_jax._typing import Array, Embedding, ImageLike, Params
from perceptual_jax.ops.filters import filter_separable, gaussian_kernel, pad_replicate
from perceptual_jax.ops.platform import on_cpu
from perceptual_jax.statistics import relative_sharpness

__all__ = ["Mean", "embed_targets", "mean_loss", "optimise", "sizes_of", "starting_images"]


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
    sizes = sizes_of(config)
    references = {size: _resized(targets, size) for size in sizes}
    descent = adam_descent(mean_loss(distance), learning_rate=config.learning_rate)

    def problem_at(size: tuple[int, int]) -> Problem:
        def context(draw: int) -> tuple[Params, Embedding]:
            params = distance.init(jax.random.fold_in(key, draw))
            return params, embed_targets(distance, params, references[size])

        return Problem(descent, context)

    def sharpness(step: int, images: Array) -> dict[str, Any]:
        height, width = images.shape[1:3]
        return {"sharpness": _sharpness(images, references[height, width]).tolist()}

    coarse = np.asarray(references[sizes[0]])
    found = coarse_to_fine(
        problem_at,
        jnp.asarray(starting_images(config.start, coarse, jax.random.fold_in(key, 2))),
        sizes,
        Schedule(config.steps, config.snapshot_every, config.redraw_every),
        label={"distance": distance.name},
        folder=folder,
        asked_to_stop=asked_to_stop,
        snapshot=sharpness,
    )
    return Mean(found.images, _sharpness(found.images, references[sizes[-1]]), found.metrics)


def sizes_of(config: Config) -> list[tuple[int, int]]:
    """(height, width) of every scale, the coarsest first."""
    return scales((config.size, config.size), config.scales)


def _resized(targets: np.ndarray, size: tuple[int, int]) -> Array:
    if targets.shape[2:4] == size:
        return jnp.asarray(targets)
    shape = (*targets.shape[:2], *size, targets.shape[-1])
    return jnp.clip(jax.image.resize(jnp.asarray(targets), shape, "cubic"), 0.0, 1.0)


def _sharpness(images: ImageLike, targets: Array) -> np.ndarray:
    return np.asarray(
        [
            relative_sharpness(image[None], same)[0]
            for image, same in zip(images, targets, strict=True)
        ]
    )
