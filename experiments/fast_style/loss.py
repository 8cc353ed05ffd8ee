"""What a network that draws in a style is trained under: it is near its content and the style."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.merge import merged
from perceptual_jax._typing import Array, Key, Params, Terms

__all__ = ["StyleLoss", "style_loss"]


class StyleLoss(NamedTuple):
    """A loss in the form of a distance: of what was made, and of the photograph it is made of.

    Attributes:
      name: for messages.
      init: `key -> params`: of the networks, and the embedded style.
      parts: `(params, made, photographs) -> {term: [n]}`.
    """

    name: str
    init: Callable[[Key], Params]
    parts: Callable[[Params, Array, Array], Terms]

    def __call__(self, params: Params, made: Array, wanted: Array, /) -> Array:
        """One number for each of what was made, [n]."""
        return sum(self.parts(params, made, wanted).values(), jnp.zeros(()))

    def terms(self, params: Params, made: Array, wanted: Array, /) -> Terms:
        """Its parts: content, style, variation."""
        return self.parts(params, made, wanted)


def style_loss(
    content: pj.Distance,
    style: pj.Distance,
    picture: np.ndarray,
    examples: np.ndarray,
    *,
    weights: tuple[float, float, float],
    key: Key,
) -> StyleLoss:
    """The loss, whose terms are relative to what they are before anything is drawn.

    Args:
      content: distance of what is made from its photograph.
      style: distance of what is made from the style; of images of any sizes.
      picture: the style, [h, w, 3] in [0, 1].
      examples: photographs, [n, s, s, 3] in [0, 1], which say what is usual: how far mid-grey is
        from them in content, how far they are from the style, and how much they vary.
      weights: of content, style and total variation.
      key: of the distances' random draws.
    """
    networks = {**content.init(key), **style.init(key)}

    @jax.jit
    def usual_of(networks: Params, painting: Array, examples: Array) -> tuple[Array, ...]:
        grey = jnp.full_like(examples[:1], 0.5)
        of_style = style.compare(
            networks, style.embed(networks, examples), style.embed(networks, painting)
        )
        of_content = content.compare(
            networks, content.embed(networks, grey), content.embed(networks, examples)
        )
        return of_content.mean(), of_style.mean(), pj.total_variation(examples).mean()

    usual = [float(value) or 1.0 for value in usual_of(networks, picture[None], examples)]

    def init(key: Key) -> Params:
        networks = {**content.init(key), **style.init(key)}
        return {"networks": networks, "style": jax.jit(style.embed)(networks, picture[None])}

    def parts(params: Params, made: Array, photographs: Array) -> dict[str, Array]:
        networks: Any = params["networks"]
        of_content = content.compare(
            networks, content.embed(networks, made), content.embed(networks, photographs)
        )
        of_style = style.compare(networks, style.embed(networks, made), params["style"])
        values = (of_content, of_style, pj.total_variation(made))
        named = zip(("content", "style", "variation"), values, weights, usual, strict=True)
        return {term: weight / own * value for term, value, weight, own in named}

    # Both distances most often look at one network.
    return StyleLoss(f"{content.name} and {style.name}", init, merged(parts))
