"""Drawing one content in every style, some side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.optimise import (
    Descent,
    Found,
    Problem,
    Schedule,
    adam_descent,
    coarse_to_fine,
    lbfgs_descent,
    scales,
)
from experiments.common.pictures import fitted
from experiments.common.run_folder import RunFolder
from experiments.style_transfer.colours import grey, with_colours_of, with_luma_like
from experiments.style_transfer.config import Config
from experiments.style_transfer.loss import Targets, any_size, style_loss, targets_for
from perceptual_jax._sums import read_sum, write_sum
from perceptual_jax._typing import Array, Params
from perceptual_jax.ops.platform import on_cpu

__all__ = ["Pictures", "Transfer", "descent_of", "draw_row", "short_name"]


class Transfer(NamedTuple):
    """One picture.

    Attributes:
      image: [h, w, 3] in [0, 1].
      losses: `{term: values}` at `steps`.
      steps: when they were logged.
      seconds_per_step: of this picture alone, at the full size.
    """

    image: np.ndarray
    losses: dict[str, list[float]]
    steps: list[int]
    seconds_per_step: float


Pictures = Mapping[str, np.ndarray]


def descent_of(config: Config, content: pj.Distance, style: pj.Distance) -> Descent:
    """The descent that draws every picture under a style distance: compiled once for each size."""
    loss = style_loss(config, content, style)
    if config.optimiser == "lbfgs":
        return lbfgs_descent(loss)
    return adam_descent(loss, learning_rate=config.learning_rate)


def draw_row(
    config: Config,
    descent: Descent,
    content_distance: pj.Distance,
    style_distance: pj.Distance,
    named_content: tuple[str, np.ndarray],
    styles: Pictures,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> dict[str, Transfer]:
    """Draws one content in every style, some side by side."""
    name, content = named_content
    key = jax.random.key(config.seed)
    free = any_size(style_distance)
    blends = (
        {"blend": dict(zip(styles, config.style_weights, strict=True))}
        if config.style_weights
        else {style: {style: 1.0} for style in styles}
    )
    sizes = scales(fitted(content, config.size), config.scales)

    def problem(batch: Sequence[str], size: tuple[int, int]) -> Problem:
        def context(draw: int) -> tuple[Params, Targets]:
            del draw
            params = {**content_distance.init(key), **style_distance.init(key)}
            at_size = _unit(content, size)
            shrunk = max(size) / config.size
            seen = {
                style: _style_at(config, picture, at_size, shrunk, free=free)
                for style, picture in styles.items()
            }
            if config.keep_colours:
                seen = {style: with_luma_like(image, at_size) for style, image in seen.items()}
                at_size = grey(at_size)
            weighted = [[(seen[s], w) for s, w in blends[which].items()] for which in batch]
            return params, targets_for(content_distance, style_distance, params, at_size, weighted)

        return Problem(descent, context)

    row: dict[str, Transfer] = {}
    for batch in _batches(config, list(blends), styles, style_distance):
        found = coarse_to_fine(
            partial(problem, batch),
            starting_image(config, content, sizes[0], len(batch)),
            sizes,
            Schedule(config.steps, config.snapshot_every),
            label={"distance": style_distance.name, "content": name, "style": ", ".join(batch)},
            folder=folder,
            asked_to_stop=asked_to_stop,
            title=f"{name} in {', '.join(batch)}, {short_name(style_distance.name)},",
        )
        row |= dict(_transfers(config, batch, found, _unit(content, sizes[-1])))
    return row


def _transfers(
    config: Config, batch: Sequence[str], found: Found, content: np.ndarray
) -> Iterator[tuple[str, Transfer]]:
    for i, style in enumerate(batch):
        image = np.clip(found.images[i], 0, 1)
        yield (
            style,
            Transfer(
                with_colours_of(content, image) if config.keep_colours else image,
                {
                    term: [line["terms"][term][i] for line in found.metrics]
                    for term in found.metrics[0]["terms"]
                },
                [line["step"] for line in found.metrics],
                found.seconds_per_step / len(batch),
            ),
        )


def starting_image(config: Config, content: np.ndarray, size: tuple[int, int], count: int) -> Array:
    """Where pictures begin, [count, h, w, 3]: each with the same noise, or the content."""
    if config.start == "noise":
        key = jax.random.fold_in(jax.random.key(config.seed), 1)
        image = np.asarray(jnp.clip(0.5 + 0.15 * jax.random.normal(key, (*size, 3)), 0, 1))
    else:
        image = _unit(content, size)
    if config.keep_colours:
        image = grey(image)
    return jnp.asarray(np.repeat(image[None], count, axis=0))


def _unit(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return pj.images.resize(picture, size).astype(np.float32) / 255


def _style_at(
    config: Config, picture: np.ndarray, content: np.ndarray, shrunk: float, *, free: bool
) -> np.ndarray:
    """A style at its own size, or cropped to the content's aspect and as large as that."""
    if free:
        return _unit(picture, fitted(picture, round((config.style_size or config.size) * shrunk)))
    height, width = content.shape[:2]
    scale = min(picture.shape[0] / height, picture.shape[1] / width)
    rows, columns = int(height * scale), int(width * scale)
    top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
    return _unit(picture[top : top + rows, left : left + columns], (height, width))


def _batches(
    config: Config, names: list[str], styles: Pictures, distance: pj.Distance
) -> list[list[str]]:
    """What is drawn side by side: consecutive styles whose embeddings have one shape."""
    width = config.side_by_side or jax.device_count() * (1 if on_cpu() else 8)
    if config.style_weights:
        return [[name] for name in names]
    batches: list[list[str]] = []
    shapes = {name: _embedded_shape(config, distance, styles[name]) for name in names}
    for name in names:
        if batches and len(batches[-1]) < width and shapes[batches[-1][0]] == shapes[name]:
            batches[-1].append(name)
        else:
            batches.append([name])
    return batches


def _embedded_shape(config: Config, distance: pj.Distance, picture: np.ndarray) -> Any:
    if not any_size(distance):
        return None
    params = jax.eval_shape(distance.init, jax.random.key(0))
    size = fitted(picture, config.style_size or config.size)
    image = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    return [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(distance.embed, params, image))]


def short_name(distance: str) -> str:
    """A spec as its name and metric: with the weights of its layers it would fill a caption."""
    return write_sum([(weight or 1.0, _short(spec)) for weight, spec in read_sum(distance)])


def _short(spec: str) -> str:
    name, _, options = spec.partition("(")
    metric = options.partition("metric='")[2].partition("'")[0]
    return f"{name} {metric}" if metric else spec
