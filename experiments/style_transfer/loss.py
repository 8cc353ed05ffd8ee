"""What a picture is drawn towards, and how far it is from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.merge import merged
from experiments.style_transfer.config import Config
from perceptual_jax._typing import Array, Embedding, Params
from perceptual_jax.errors import InputError

__all__ = ["Style", "Targets", "any_size", "style_loss", "targets_for"]


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
