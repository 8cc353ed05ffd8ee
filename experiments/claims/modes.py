"""Which of several right answers a generator gives: the mean of them, one, or each now and then."""

from __future__ import annotations

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
from experiments.common.generators import Generator, Network, network
from experiments.common.training import Batch
from perceptual_jax._typing import Array, Key, Params

__all__ = ["CLAIM", "Nearest", "right_answers"]

_SIZE, _NOISE, _WIDTH, _RATE = 32, 16, 0.25, 2e-3
_PIXELS, _PERCEPTUAL = ("l1", "l2"), ("vgg16", "lpips-vgg")
_DRAWN, _JUDGED = 4, 96
"""How many answers a step draws for each right one; how many are judged."""


_SHAPES: dict[str, tuple[str, tuple[int, ...], int]] = {
    "#d62728": ("ellipse", (6, 6, 25, 25), 0),
    "#1f77b4": ("rectangle", (7, 7, 24, 24), 0),
    "#2ca02c": ("polygon", (16, 4, 27, 26, 5, 26), 0),
    "#f0c000": ("polygon", (4, 16, 16, 4, 28, 16, 16, 28), 0),
    "#9467bd": ("ellipse", (4, 4, 27, 27), 5),
    "#17becf": ("rectangle", (3, 12, 28, 19), 0),
}
"""`{colour: (Pillow's name of the shape, its corners, the width of its line; 0 for filled)}`."""


# --- The task ------------------------------------------------------------------------------


def right_answers() -> np.ndarray:
    """Six shapes, each of its colour: uint8 [6, 32, 32, 3]."""
    answers = []
    for colour, (draw, corners, width) in _SHAPES.items():
        image = Image.new("RGB", (_SIZE, _SIZE), "#303030")
        look = {"outline": colour, "width": width} if width else {"fill": colour}
        getattr(ImageDraw.Draw(image), draw)(corners, **look)
        answers.append(np.asarray(image))
    return np.stack(answers)


class Nearest(NamedTuple):
    """The distance from what was wanted to the nearest of several answers; of one, to that.

    Answers are [n, k, h, w, 3], and those wanted [n, h, w, 3].

    Attributes:
      distance: to every answer.
      name: of the loss.
    """

    distance: pj.Distance
    name: str

    def init(self, key: Key) -> Params:
        """The distance's."""
        return self.distance.init(key)

    def __call__(self, params: Params, made: Any, wanted: Any, /) -> Array:
        """[n]."""
        count, drawn = made.shape[:2]
        each = self.distance.embed(params, made.reshape(-1, *made.shape[2:]))
        right = self.distance.embed(params, wanted)
        repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, drawn, axis=0), right)
        values = self.distance.compare(params, each, repeated)
        return values.reshape(count, drawn).min(axis=1)

    def terms(self, params: Params, made: Any, wanted: Any, /) -> dict[str, Array]:
        """It has one part."""
        return {self.name: self(params, made, wanted)}


def _of_several(flat: Network) -> Network:
    """A generator of codes [n, k, c] to images [n, k, h, w, 3]."""

    def train(params: Any, running: Any, codes: Array) -> tuple[Array, Any]:
        made, running = flat.train(params, running, codes.reshape(-1, codes.shape[-1]))
        return made.reshape(*codes.shape[:2], *made.shape[1:]), running

    return flat._replace(train=train)


def _judge(answers: np.ndarray, setting: Setting) -> Judge:
    """How far images are from the nearest right answer, and how many of these they come to."""
    distance = pj.make(LPIPS)
    params = distance.init(jax.random.key(setting.seed))
    embed = jax.jit(distance.embed)
    right = embed(params, answers)
    apart = np.asarray(pj.pairwise(distance, params, right, right))
    close = apart[~np.eye(len(answers), dtype=bool)].min() / 2

    def judge(made: np.ndarray) -> dict[str, float]:
        far = np.asarray(pj.pairwise(distance, params, embed(params, made), right))
        covered = set(far.argmin(axis=1)[far.min(axis=1) < close].tolist())
        return {"to nearest": float(far.min(axis=1).mean()), "covered": len(covered)}

    return judge


def measure(setting: Setting) -> Measured:
    """What generators of noise come to: one answer a step, and the nearest of several."""
    answers = right_answers()
    wanted = np.float32(1 / 255) * answers
    flat = network(Generator(_SIZE, _WIDTH), (2, _NOISE))
    noise = np.random.default_rng([setting.seed, 9]).normal(size=(_JUDGED, _NOISE))
    judge, use = _judge(wanted, setting), jax.jit(flat.use)
    under: dict[str, Any] = {}
    rows = {"right answers": [(image, "") for image in wanted]}
    for drawn in (1, _DRAWN):

        def take(step: int, drawn: int = drawn) -> Batch:
            rng = np.random.default_rng([setting.seed, 10, step])
            codes = rng.normal(size=(len(answers), drawn, _NOISE)).astype(np.float32)
            return Batch(codes, answers)

        task = Task(
            _of_several(flat), use, take, len(answers), _RATE, noise.astype(np.float32), judge
        )
        names = {name: name if drawn == 1 else f"{name}, nearest of {drawn}" for name in _LOSSES}
        losses = {names[spec]: Nearest(pj.make(spec), names[spec]) for spec in _LOSSES}
        numbers, made = under_each(setting, task, "modes", losses)
        under |= numbers["under"]
        rows |= {name: [(image, "") for image in images[:6]] for name, images in made.items()}
    return Measured({"under": under, "answers": len(answers)}, rows)


_LOSSES = (*_PIXELS, *_PERCEPTUAL)


# --- The claim -----------------------------------------------------------------------------


def verdict(numbers: dict[str, Any]) -> Verdict:
    """Whether perceptual losses give right answers, and whether they give more than one."""
    far, covered = ends(numbers, "to nearest"), ends(numbers, "covered")
    pixels = min(far[name] for name in _PIXELS)
    return verdict_on(
        [
            all(far[name] < 0.8 * pixels for name in _PERCEPTUAL),
            all(covered[name] > numbers["answers"] / 2 for name in _PERCEPTUAL),
        ]
    )


def draw(numbers: dict[str, Any]) -> tuple[Figure, str]:
    """How far answers are from a right one, and how many right ones are given."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    titles = {
        "to nearest": f"{LPIPS} to the nearest right answer",
        "covered": f"right answers given, of {numbers['answers']}",
    }
    for axes, (measure, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        last = ends(numbers, measure)
        axes.barh(list(last), list(last.values()))
        axes.invert_yaxis()
        axes.set_xlabel(title)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, "How far answers are from a right one, and how many right ones are given"


CLAIM = Claim(
    says="Where several answers are right, a perceptual loss gives them all where a pixel loss "
    "gives their mean.",
    how="A generator makes pictures of noise; any of six shapes is right, and which is wanted of "
    "which noise is drawn anew every step. To see that it is not the generator's fault, the same "
    f"is done where the loss is that of the nearest of {_DRAWN} answers. Of {_JUDGED} answers to "
    "new noise each is compared with the six by LPIPS on AlexNet; it gives the one that it is "
    "nearest to, if it is nearer than half of the way between the two most alike.",
    rule="Holds if under each perceptual loss answers are less than .8 times as far from a right "
    "one as under any pixel loss, and more than half of the right ones are given; in part if one "
    "of these is so.",
    measure=measure,
    verdict=verdict,
    draw=draw,
    table=partial(table, measures=("to nearest", "covered")),
    source="the nearest of several: K. Li, J. Malik, Implicit Maximum Likelihood Estimation, 2018",
)
