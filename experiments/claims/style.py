"""Which layers know a painting's manner: one picture in another's, by one layer at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments import style_transfer
from experiments.claims.claim import Claim, Measured, Setting, Verdict, verdict_on
from experiments.common.data import EMBEDDED
from experiments.common.figures import panels
from experiments.common.pictures import fitted, named_pictures
from experiments.common.run_folder import is_begun
from experiments.style_transfer.colours import grey
from experiments.style_transfer.config import STYLES

__all__ = ["CLAIM"]

_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
_SHALLOW, _DEEP = _LAYERS[:2], _LAYERS[2:4]
_JUDGE = "lap-swd(levels=2)"
_SEEN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "in colour": lambda image: image,
    "in grey": grey,
}
"""What the judge is shown of a picture [h, w, 3]."""
_MOST_CONTENTS = 2


def _loss(layer: str) -> str:
    return pj.make("vgg16", layers=(layer,), metric="gram").name


def measure(setting: Setting) -> Measured:
    """How far pictures remain from the style, by what is not one of the losses."""
    contents = EMBEDDED[: min(setting.pictures, _MOST_CONTENTS)]
    config = style_transfer.Config(
        content=contents,
        style=STYLES,
        style_distance=tuple(_loss(layer) for layer in _LAYERS),
        size=setting.size,
        steps=setting.steps,
        scales=1,
        seed=setting.seed,
        out=str(setting.folder.path),
        name="layers",
        resume=is_begun(setting.folder.path, "style-transfer", "layers"),
    )
    drawn = style_transfer.run(config)
    given = named_pictures("--content", (*contents, *STYLES), ())
    sized = {
        name: pj.images.resize(picture, fitted(picture, setting.size)).astype(np.float32) / 255
        for name, picture in given.items()
    }
    distance = pj.make(_JUDGE)
    params = distance.init(jax.random.key(setting.seed))
    apart = jax.jit(distance.__call__)

    def far(image: np.ndarray, style: str, show: Callable[[np.ndarray], np.ndarray]) -> float:
        return float(apart(params, show(image)[None], show(sized[style])[None])[0])

    left = {}
    for seen, show in _SEEN.items():
        usual = {
            (content, style): far(sized[content], style, show)
            for content in contents
            for style in STYLES
        }
        left[seen] = {
            layer: [
                far(drawn[_loss(layer), content, style].image, style, show) / whole
                for (content, style), whole in usual.items()
            ]
            for layer in _LAYERS
        }
    rows = {
        f"{contents[0]} in {style}": [
            (sized[style], "the style"),
            *((drawn[_loss(layer), contents[0], style].image, layer) for layer in _LAYERS),
        ]
        for style in STYLES
    }
    return Measured({"left": left}, rows)


def _means(numbers: dict[str, Any], seen: str) -> dict[str, float]:
    return {layer: float(np.mean(values)) for layer, values in numbers["left"][seen].items()}


def verdict(numbers: dict[str, Any]) -> Verdict:
    """Whether each deep layer comes nearer than each shallow one, in colour and in grey."""
    parts = []
    for seen in numbers["left"]:
        mean = _means(numbers, seen)
        parts.append(max(mean[each] for each in _DEEP) < min(mean[each] for each in _SHALLOW))
    return verdict_on(parts)


def draw(numbers: dict[str, Any]) -> tuple[Figure, str]:
    """What is left of the way to the style, layer by layer."""
    figure, (axes,) = panels(size=(8, 3.6))
    for seen in numbers["left"]:
        mean = _means(numbers, seen)
        axes.plot(list(mean), list(mean.values()), "o-", label=seen)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set(xlabel="layer of the style loss", ylabel="distance from the style / the content's")
    axes.legend(fontsize=8)
    return figure, "How far from the style pictures remain, by the layer that they are drawn by"


def table(numbers: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The same as numbers."""
    means = {seen: _means(numbers, seen) for seen in numbers["left"]}
    rows = [[layer, *(f"{mean[layer]:.3f}" for mean in means.values())] for layer in _LAYERS]
    return ["layer", *means], rows


CLAIM = Claim(
    says="For style, deep layers make better losses than shallow ones.",
    how="Two embedded photographs are drawn in two paintings' manner, by Gram matrices of one "
    "layer of VGG-16 at a time, all else alike. How far they remain from the painting is judged by "
    "the sliced Wasserstein distance of patches, in colour and of the pictures in grey, relative "
    "to the photograph's own: 0 is as the painting, 1 as before.",
    rule=f"Holds if each of {' and '.join(_DEEP)} comes nearer than each of "
    f"{' and '.join(_SHALLOW)} in both; in part if in one.",
    measure=measure,
    verdict=verdict,
    draw=draw,
    table=table,
    source="L. Gatys, A. Ecker, M. Bethge, Image Style Transfer Using Convolutional Neural "
    "Networks, CVPR 2016",
)
