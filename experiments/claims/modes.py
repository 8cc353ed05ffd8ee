"""Which of several right answers are given: their mean, one of them, or each by another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

import perceptual_jax as pj
from experiments.claims.claim import Claim, Measured, Setting, Verdict, verdict_on
from experiments.claims.trained import LPIPS, Judge, Task, ends, table, under_each
from experiments.common.figures import panels
from experiments.common.generators import Network
from experiments.common.training import Batch
from perceptual_jax._typing import Array, Key, Params

__all__ = ["CLAIM", "Over", "right_answers"]

_SIZE, _RATE = 64, 0.05
_PIXELS, _PERCEPTUAL = ("l1", "l2"), ("vgg16", "lpips-vgg")
_LOSSES = (*_PIXELS, *_PERCEPTUAL)
_ANSWERS = 8


_SHAPES: dict[str, tuple[str, tuple[int, ...], int]] = {
    "#d62728": ("ellipse", (12, 12, 51, 51), 0),
    "#1f77b4": ("rectangle", (14, 14, 49, 49), 0),
    "#2ca02c": ("polygon", (32, 8, 55, 53, 9, 53), 0),
    "#f0c000": ("polygon", (8, 32, 32, 8, 56, 32, 32, 56), 0),
    "#9467bd": ("ellipse", (8, 8, 55, 55), 10),
    "#17becf": ("rectangle", (6, 24, 57, 39), 0),
}
"""`{colour: (Pillow's name of the shape, its corners, the width of its line; 0 for filled)}`."""


# --- The task ------------------------------------------------------------------------------


def right_answers() -> np.ndarray:
    """Six shapes, each of its colour: uint8 [6, 64, 64, 3]."""
    answers = []
    for colour, (draw, corners, width) in _SHAPES.items():
        image = Image.new("RGB", (_SIZE, _SIZE), "#303030")
        look = {"outline": colour, "width": width} if width else {"fill": colour}
        getattr(ImageDraw.Draw(image), draw)(corners, **look)
        answers.append(np.asarray(image))
    return np.stack(answers)


class Over(NamedTuple):
    """What the distances from each wanted image to all answers come to.

    Attributes:
      distance: of the two.
      join: of [wanted, answers] to [wanted]: the mean, where any answer may be asked for anything;
        or `both_ways`.
      name: of the loss.
    """

    distance: pj.Distance
    join: Callable[[Array], Array]
    name: str

    def init(self, key: Key) -> Params:
        """The distance's."""
        return self.distance.init(key)

    def __call__(self, params: Params, made: Any, wanted: Any, /) -> Array:
        """[wanted]."""
        count, answers = len(wanted), len(made)
        right, each = (self.distance.embed(params, images) for images in (wanted, made))
        right = jax.tree.map(lambda leaf: jnp.repeat(leaf, answers, axis=0), right)
        each = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * count), each)
        values = self.distance.compare(params, right, each).reshape(count, answers)
        return self.join(values)

    def terms(self, params: Params, made: Any, wanted: Any, /) -> dict[str, Array]:
        """It has one part."""
        return {self.name: self(params, made, wanted)}


def _all_alike(values: Array) -> Array:
    return values.mean(axis=1)


def both_ways(values: Array) -> Array:
    """Of [wanted, answers]: how far the nearest answer is, and every answer from the nearest."""
    return values.min(axis=1) + values.min(axis=0).mean()


def _answers() -> Network:
    """A generator without an input: pictures that are learned themselves, from coloured spots."""

    def init(key: Key) -> tuple[Any, Any]:
        # Large spots: pictures of fine noise are all as far from everything, and move as one.
        spots = 0.5 + 0.25 * jax.random.normal(key, (_ANSWERS, 4, 4, 3))
        return jax.image.resize(spots, (_ANSWERS, _SIZE, _SIZE, 3), "linear"), {}

    def train(params: Any, running: Any, inputs: Any) -> tuple[Any, Any]:
        del inputs
        return params, running

    return Network(init, train, lambda params, running, inputs: params)


def _judge(right: np.ndarray, setting: Setting) -> Judge:
    """How far images are from the nearest right answer, and how many of these they come to."""
    distance = pj.make(LPIPS)
    params = distance.init(jax.random.key(setting.seed))
    embed = jax.jit(distance.embed)
    embedded = embed(params, right)
    apart = np.asarray(pj.pairwise(distance, params, embedded, embedded))
    close = apart[~np.eye(len(right), dtype=bool)].min() / 2

    def judge(made: np.ndarray) -> dict[str, float]:
        far = np.asarray(pj.pairwise(distance, params, embed(params, made), embedded))
        given = set(far.argmin(axis=1)[far.min(axis=1) < close].tolist())
        return {"to nearest": float(far.min(axis=1).mean()), "given": len(given)}

    return judge


def measure(setting: Setting) -> Measured:
    """What the answers come to, if all are asked for everything, and if the nearest one is."""
    answers = right_answers()
    right = np.float32(1 / 255) * answers
    made_by, judge = _answers(), _judge(right, setting)
    batch = Batch(answers, answers)
    task = Task(made_by, made_by.use, lambda step: batch, len(answers), _RATE, right, judge)
    losses = {name: Over(pj.make(name), _all_alike, name) for name in _LOSSES}
    losses |= {
        f"{name}, nearest": Over(pj.make(name), both_ways, f"{name}, nearest") for name in _LOSSES
    }
    numbers, made = under_each(setting, task, "modes", losses)
    rows = {"right answers": [(image, "") for image in right]}
    rows |= {name: [(image, "") for image in images] for name, images in made.items()}
    return Measured({**numbers, "answers": len(answers)}, rows)


# --- The claim -----------------------------------------------------------------------------


def verdict(numbers: dict[str, Any]) -> Verdict:
    """Whether perceptual losses give right answers, and whether they give more than one."""
    far, given = ends(numbers, "to nearest"), ends(numbers, "given")
    pixels = min(far[name] for name in _PIXELS)
    return verdict_on(
        [
            all(far[name] < 0.8 * pixels for name in _PERCEPTUAL),
            all(given[name] > numbers["answers"] / 2 for name in _PERCEPTUAL),
        ]
    )


def draw(numbers: dict[str, Any]) -> tuple[Figure, str]:
    """How far answers are from a right one, and how many right ones are given."""
    figure, found = panels(2)
    titles = {
        "to nearest": f"{LPIPS} to the nearest right answer",
        "given": f"right answers given, of {numbers['answers']}",
    }
    for axes, (measure, title) in zip(found, titles.items(), strict=True):
        last = ends(numbers, measure)
        axes.barh(list(last), list(last.values()))
        axes.invert_yaxis()
        axes.set_xlabel(title)
    return figure, "How far answers are from a right one, and how many right ones are given"


CLAIM = Claim(
    says="Where several answers are right, a perceptual loss gives them all where a pixel loss "
    "gives their mean.",
    how=f"Six shapes are right. {_ANSWERS} pictures, coloured spots at first, are moved by Adam: "
    "each is asked for all shapes alike, as a generator is whose noise has nothing to do with what "
    "is wanted. To see that this is not the descent's fault, the same is done where a shape asks "
    "the nearest picture alone, and a picture is asked for the nearest shape. The pictures are "
    "compared with the shapes by LPIPS on AlexNet; one gives the shape that it is nearest to, if "
    "it is less than half as far from it as the two most alike are from each other.",
    rule="Holds if under each perceptual loss pictures are less than .8 times as far from a shape "
    "as under any pixel loss, and more than half of the shapes are given; in part if one of these "
    "is so.",
    measure=measure,
    verdict=verdict,
    draw=draw,
    table=partial(table, measures=("to nearest", "given")),
    source="the nearest of several: K. Li, J. Malik, Implicit Maximum Likelihood Estimation, 2018",
)
