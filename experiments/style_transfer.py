"""Style transfer: one picture's scene in another's manner, under any two distances.

    min over z of  a d_content(z, content) / d_content(grey, content)
                 + b d_style(z, style) / d_style(content, style)  +  c TV(z) / TV(content)

Each term is relative to where it would stand without the transfer, so that the same weights serve
every distance and every size. A style can have any size: Gram matrices, means of random features
and sorted projections know nothing of places. For a distance that does, the style is cropped to
the content's aspect and resized, which the run says.

    perceptual-jax style-transfer                     # embedded pictures, some minutes on 2 cores
    perceptual-jax style-transfer --content photo.jpg --style painting.jpg another.jpg --size 512
    perceptual-jax style-transfer --content photos/ --style paintings/      # one grid of them all
    perceptual-jax style-transfer --preset compare    # trained VGG, random VGG, MMD, SWD

References:
  L. Gatys, A. Ecker, M. Bethge, "Image Style Transfer Using Convolutional Neural Networks",
  CVPR 2016.
  L. Gatys et al., "Preserving Color in Neural Artistic Style Transfer", 2016,
  https://arxiv.org/abs/1606.05897
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.loop import interruptible
from experiments.common.merge import merged
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
from experiments.common.pictures import fitted, named_pictures
from experiments.common.progress import console
from experiments.common.run_folder import RunFolder, file_name, resumed, start
from experiments.style_report import short_name, write_results
from perceptual_jax._typing import Array, Embedding, Params
from perceptual_jax.errors import InputError
from perceptual_jax.ops.platform import on_cpu

__all__ = ["GRAM", "PRESETS", "Config", "Transfer", "run", "style_loss", "with_colours_of"]

_LAYERS = "layers={'relu1_1': 50, 'relu2_1': 1, 'relu3_1': 0.06, 'relu4_1': 0.06, 'relu5_1': 0.3}"
# The weights make the layers' parts equally large for photographs and paintings.
GRAM = f"vgg16({_LAYERS}, metric='gram')"
"""Gatys' style loss: Gram matrices of the first layer of each block."""

_CONTENTS = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle")
_STYLES = ("strokes", "stained-glass")


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax style-transfer`."""

    content: tuple[str, ...] = ("chelsea", "rocket")
    """Names of embedded pictures, image files, folders of them, or "embedded" for all."""
    style: tuple[str, ...] = _STYLES
    """Likewise. Every content is drawn in every style."""
    content_distance: str = "vgg16(layers=('relu4_2',), metric='l2')"
    """A distance of the catalogue, as a name or as a call."""
    style_distance: tuple[str, ...] = (GRAM,)
    """One or more, each of which draws pictures of its own."""
    content_weight: float = 1.0
    """Of the distance from the content; that of mid-grey is 1."""
    style_weight: float = 10.0
    """Of the distance from the style; that of the content is 1."""
    variation_weight: float = 0.05
    """Of the total variation; that of the content is 1. More is smoother."""
    style_weights: tuple[float, ...] = ()
    """One for each style: blends all of them into one picture for each content."""
    keep_colours: bool = False
    """Transfer the style's light and dark alone, and keep the content's colours."""
    size: int = 256
    """The longer side of contents and styles, in pixels; each keeps its aspect."""
    style_size: int = 0
    """The longer side of styles; smaller makes their strokes finer. 0 is the same as --size."""
    start: Literal["content", "noise"] = "content"
    """What to start from."""
    optimiser: Literal["adam", "lbfgs"] = "adam"
    """L-BFGS has no rate to choose; each of its steps takes two or more evaluations."""
    steps: int = 300
    """How many, shared equally by the scales."""
    learning_rate: float = 0.03
    """Of Adam, on images in [0, 1]."""
    scales: int = 2
    """From how many times halved to the full size, each begun with what the one before found."""
    side_by_side: int = 0
    """How many pictures of one content to draw at once; 0 is one a device on CPU, else eight."""
    seed: int = 0
    """Of noise and of distances that draw at random."""
    snapshot_every: int = 25
    """Save a checkpoint and log metrics every so many steps."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(content=("chelsea",), style=("strokes",), size=192, steps=100),
    "default": Config(),
    "compare": Config(
        content=("chelsea",),
        style=("strokes",),
        style_distance=(
            GRAM,
            GRAM.replace("vgg16", "vgg16-random"),
            "mmd-rff(window=None)",
            "swd",
        ),
        size=192,
        steps=200,
    ),
    "paper": Config(
        content=("embedded",),
        style=("embedded",),
        size=512,
        steps=500,
        scales=1,
        optimiser="lbfgs",
        start="noise",
    ),
}


class Style(NamedTuple):
    """A style as the loss wants it; leaves have leading axis s, one for each problem.

    Attributes:
      embedded: by the style distance.
      weight: [s], of this style among those that are blended.
      usual: [s], its distance from the content.
    """

    embedded: Embedding
    weight: Array
    usual: Array


class Targets(NamedTuple):
    """What s pictures are drawn towards, side by side.

    Attributes:
      content: embedded by the content distance.
      content_usual: [s], its distance from mid-grey.
      variation: [s], its total variation.
      styles: those that are blended, most often one.
    """

    content: Embedding
    content_usual: Array
    variation: Array
    styles: tuple[Style, ...]


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


# --- The loss ------------------------------------------------------------------------------


def style_loss(config: Config, content: pj.Distance, style: pj.Distance) -> Any:
    """The loss's terms: `((params, Targets), images [s, h, w, 3]) -> {term: [s]}`."""

    def loss(context: tuple[Params, Targets], images: Array) -> dict[str, Array]:
        params, targets = context
        of_content = content.compare(params, content.embed(params, images), targets.content)
        embedded = style.embed(params, images)
        of_style = [
            each.weight / each.usual * style.compare(params, embedded, each.embedded)
            for each in targets.styles
        ]
        terms = {
            "content": config.content_weight * of_content / targets.content_usual,
            "style": config.style_weight * jnp.stack(of_style).sum(axis=0),
            "variation": config.variation_weight * pj.total_variation(images) / targets.variation,
        }
        weights = (config.content_weight, config.style_weight, config.variation_weight)
        return {term: terms[term] for term, weight in zip(terms, weights, strict=True) if weight}

    # Most often both distances look at the same layers of one network.
    return merged(loss)


def targets_for(
    content_distance: pj.Distance,
    style_distance: pj.Distance,
    params: Params,
    content: np.ndarray,
    blends: Sequence[Sequence[tuple[np.ndarray, float]]],
) -> Targets:
    """Embeds a content [h, w, 3] and the styles of each of s pictures, with their weights.

    The styles blended first must have embeddings of one shape, and so those blended second.
    """
    embed_content, compare_content = _compiled(content_distance)
    embed_style, compare_style = _compiled(style_distance)
    images = jnp.asarray(content)[None]
    embedded = embed_content(params, images)
    grey = embed_content(params, jnp.full_like(images, 0.5))
    styled = embed_style(params, images)

    def style(image: np.ndarray, weight: float) -> Style:
        towards = embed_style(params, jnp.asarray(image)[None])
        usual = _or_one(compare_style(params, styled, towards))
        return Style(towards, jnp.full_like(usual, weight), usual)

    each = [
        Targets(
            embedded,
            _or_one(compare_content(params, grey, embedded)),
            _or_one(pj.total_variation(images)),
            tuple(style(*blended) for blended in blend),
        )
        for blend in blends
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *each)


@cache
def _compiled(distance: pj.Distance) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Its embed and compare, compiled once for all pictures of one size."""
    return jax.jit(lambda *given: distance.embed(*given)), jax.jit(
        lambda *given: distance.compare(*given)
    )


def _or_one(usual: Array) -> Array:
    """Where a content is flat, or its own style, there is nothing to be relative to."""
    return jnp.where(usual > 0, usual, 1)


def any_size(distance: pj.Distance) -> bool:
    """Whether an image can be compared with one of another size."""
    params = jax.eval_shape(distance.init, jax.random.key(0))
    x, y = (jax.ShapeDtypeStruct((1, *size, 3), np.float32) for size in ((96, 128), (160, 112)))
    try:
        jax.eval_shape(distance.__call__, params, x, y)
    except InputError:
        return False
    return True


# --- Colours -------------------------------------------------------------------------------

_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32
)
"""RGB to YIQ: what is light, and two axes of colour."""


def grey(image: np.ndarray) -> np.ndarray:
    """The luma of an image [h, w, 3] in [0, 1], in all three channels."""
    return np.repeat((image @ _FROM_RGB[0])[..., None], 3, axis=-1)


def with_luma_like(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """The style in grey, as light and as contrasted as the content is.

    Else a dark style would darken colours that are kept.
    """
    ours, theirs = grey(style), grey(content)
    moved = (ours - ours.mean()) * (theirs.std() / max(ours.std(), 1e-6)) + theirs.mean()
    return np.clip(moved, 0, 1)


def with_colours_of(content: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The luma of an image with the colours of a content of its size; both [h, w, 3] in [0, 1]."""
    of_content, of_image = content @ _FROM_RGB.T, image @ _FROM_RGB.T
    joined = np.concatenate([of_image[..., :1], of_content[..., 1:]], axis=-1)
    return np.clip(joined @ np.linalg.inv(_FROM_RGB).T, 0, 1).astype(np.float32)


# --- The run -------------------------------------------------------------------------------


def run(config: Config) -> dict[tuple[str, str, str], Transfer]:
    """Draws every content in every style under every distance, and writes the run's folder.

    Returns:
      `{(distance, content, style): Transfer}`; the style is "blend" where they are blended.

    Raises:
      InputError: for options that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("style-transfer", config)
    check(config)
    contents = named_pictures("--content", config.content, _CONTENTS)
    styles = named_pictures("--style", config.style, _STYLES)
    if config.style_weights and len(config.style_weights) != len(styles):
        raise InputError(
            f"--style-weights must be one for each of the {len(styles)} styles; "
            f"got {len(config.style_weights)}"
        )
    content_distance = pj.make(config.content_distance)
    style_distances = [pj.make(spec) for spec in config.style_distance]
    for distance in (content_distance, *style_distances):
        _check_sizes(config, distance, contents, styles)
    for distance in style_distances:
        if not any_size(distance):
            console.print(
                f"{distance.name} compares place by place: styles are cropped to the content's "
                "aspect and resized to it"
            )
    folder = start("style-transfer", config, distances=(content_distance, *style_distances))
    drawn: dict[tuple[str, str, str], Transfer] = {}
    with interruptible() as asked_to_stop:
        for distance in style_distances:
            descent = descent_of(config, content_distance, distance)
            for name, content in contents.items():
                row = draw_row(
                    config, descent, content_distance, distance, (name, content), styles, folder,
                    asked_to_stop,
                )  # fmt: skip
                for style, transfer in row.items():
                    drawn[distance.name, name, style] = transfer
                    picture = "-".join(map(file_name, (name, style, distance.name)))
                    folder.write_image(f"{picture}.png", transfer.image)
    write_results(config, folder, contents, styles, drawn)
    return drawn


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


# --- Checks --------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    bounds: dict[str, tuple[float, float]] = {
        **{"steps": (1, 10**9), "snapshot_every": (1, 10**9), "side_by_side": (0, 10**6)},
        **{"size": (32, 8192), "style_size": (0, 8192), "scales": (1, 8)},
        **{"content_weight": (0, 1e9), "style_weight": (0, 1e9), "variation_weight": (0, 1e9)},
        **{"learning_rate": (1e-9, 1e3), "seed": (0, 2**31 - 1)},
    }
    for field, (least, most) in bounds.items():
        value = getattr(config, field)
        if not least <= value <= most:
            flag = f"--{field.replace('_', '-')}"
            raise InputError(f"{flag} must be at least {least} and at most {most}; got {value}")
    if config.steps < config.scales:
        raise InputError(f"--steps must be at least --scales, {config.scales}")
    if not config.content_weight + config.style_weight:
        raise InputError("--content-weight and --style-weight cannot both be 0")
    if config.style_weights and not (min(config.style_weights) >= 0 < sum(config.style_weights)):
        raise InputError("--style-weights must be at least 0, and one of them more")
    names = [pj.make(spec).name for spec in config.style_distance]
    if not names or len(set(names)) < len(names):
        raise InputError(f"--style-distance must name one or more, each once; got {names}")


def _check_sizes(
    config: Config, distance: pj.Distance, contents: Pictures, styles: Pictures
) -> None:
    """Raises before the run's folder is made: weights, and pictures too small for a distance."""
    params = jax.eval_shape(distance.init, jax.random.key(0))
    for flag, pictures, side in (
        ("--content", contents, config.size),
        ("--style", styles, config.style_size or config.size),
    ):
        for name, picture in pictures.items():
            size = scales(fitted(picture, side), config.scales)[0]
            image = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
            try:
                jax.eval_shape(distance.embed, params, image)
            except InputError as error:
                raise InputError(
                    f"{flag} {name} is {size[1]}x{size[0]} at the coarsest scale: {error}"
                ) from None
