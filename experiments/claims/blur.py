"""What losses answer where two answers are right: on two grey levels, and on two pictures."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments import image_mean
from experiments.claims.claim import Claim, Measured, Setting, Verdict, verdict_on
from experiments.claims.shifts import moved_window
from experiments.common.data import EMBEDDED, embedded_picture
from experiments.common.figures import panels
from experiments.compare import scorer
from experiments.image_mean.endurance import JUDGE
from experiments.image_mean.method import optimise

__all__ = ["CLAIM"]

_LEVELS = (0.25, 0.75)
_TOY = ("l2", "l1", "patch-rbf")
_PIXELS = ("l1", "l2")
_PERCEPTUAL = ("vgg16", "lpips-vgg")
_APART = 6
"""How far the two right pictures are apart, in pixels."""


def measure(setting: Setting) -> Measured:
    """The expected loss of every grey answer; and the image nearest to a picture and it moved."""
    answers = np.linspace(0, 1, 101, dtype=np.float32)
    _, score = scorer([pj.make(spec) for spec in _TOY], setting.seed)
    flat = np.broadcast_to(answers[:, None, None, None], (101, 16, 16, 3))
    by_level = [
        jax.device_get(score(flat, np.full((101, 16, 16, 3), level, np.float32)))
        for level in _LEVELS
    ]
    toy = {
        name: np.mean([values[name] for values in by_level], axis=0, dtype=np.float64).tolist()
        for name in by_level[0]
    }
    config = image_mean.Config(
        size=setting.size, steps=setting.steps, snapshot_every=setting.steps, seed=setting.seed
    )
    right = np.stack([_two_answers(name, setting.size) for name in EMBEDDED[: setting.pictures]])
    found = {
        spec: optimise(config, pj.make(spec), right, setting.folder, setting.asked_to_stop)
        for spec in (*_PIXELS, *_PERCEPTUAL)
    }
    judge = pj.make(JUDGE)
    params, compare = judge.init(jax.random.key(setting.seed)), jax.jit(judge.__call__)

    def to_nearer(images: np.ndarray) -> list[float]:
        each = [compare(params, images, right[:, place]) for place in range(2)]
        return np.minimum(*map(np.asarray, each)).astype(float).tolist()

    pictures = {
        name: [
            (right[place, 0], "a right answer"),
            (right[place, 1], "another"),
            *((mean.images[place], spec) for spec, mean in found.items()),
        ]
        for place, name in enumerate(EMBEDDED[: setting.pictures])
    }
    return Measured(
        {
            "levels": list(_LEVELS),
            "answers": answers.tolist(),
            "toy": toy,
            "to_nearer": {spec: to_nearer(mean.images) for spec, mean in found.items()},
            "sharpness": {spec: mean.sharpness.tolist() for spec, mean in found.items()},
        },
        pictures,
    )


def _two_answers(name: str, size: int) -> np.ndarray:
    """A picture, moved to the left and to the right: [2, size, size, 3]."""
    canvas = pj.images.resize(embedded_picture(name), size + 2 * _APART).astype(np.float32) / 255
    half = _APART // 2
    return np.stack([moved_window(canvas, size, 0, across) for across in (-half, half)])


def best_answer(numbers: dict[str, Any], name: str) -> float:
    """The grey level with the least expected loss; of several as good, the first."""
    return numbers["answers"][int(np.argmin(numbers["toy"][name]))]


def verdict(numbers: dict[str, Any]) -> Verdict:
    """Whether l2 answers with the mean, and perceptual losses nearer to one of the answers."""
    low, high = numbers["levels"]
    middle = abs(best_answer(numbers, "l2") - (low + high) / 2) < 0.02
    means = {name: float(np.mean(values)) for name, values in numbers["to_nearer"].items()}
    pixels = min(means[name] for name in _PIXELS)
    return verdict_on([middle, *(means[name] < 0.8 * pixels for name in _PERCEPTUAL)])


def draw(numbers: dict[str, Any]) -> tuple[Figure, str]:
    """Expected losses of grey answers, and how far the images found are from an answer."""
    figure, (left, right) = panels(2, size=(10, 3.8))
    for name, values in numbers["toy"].items():
        left.plot(numbers["answers"], np.array(values) / max(values), label=name)
    for level in numbers["levels"]:
        left.axvline(level, color="grey", linewidth=0.8, linestyle=":")
    left.set(xlabel="grey answered, where .25 and .75 are right", ylabel="expected loss / largest")
    left.legend(fontsize=8)
    names = list(numbers["to_nearer"])
    right.bar(names, [np.mean(numbers["to_nearer"][name]) for name in names])
    right.set(ylabel=f"{JUDGE} to the nearer right answer")
    return figure, "Expected loss of every grey; how far the images are from a right answer"


def table(numbers: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Distance to the nearer answer by picture, and the mean sharpness."""
    rows = [
        [
            name,
            *(f"{value:.3f}" for value in values),
            f"{np.mean(values):.3f}",
            f"{np.mean(numbers['sharpness'][name]):.2f}",
        ]
        for name, values in numbers["to_nearer"].items()
    ]
    count = len(next(iter(numbers["to_nearer"].values())))
    return [f"{JUDGE} to the nearer answer", *EMBEDDED[:count], "mean", "sharpness"], rows


CLAIM = Claim(
    says="Where several answers are right, a pixel loss answers with their mean, a blur; a "
    "perceptual loss answers with something sharp.",
    how="First on a toy: of two grey levels either is right half of the time; which grey has the "
    "least expected loss? Then on pictures: a photograph and the same, moved by "
    f"{_APART} pixels, are both right; from their mean, the image with the least loss to both is "
    f"sought. It is judged by how far it is from the nearer of them, by {JUDGE}, which is none of "
    "the losses; sharpness alone, gradient energy relative to the answers, may be noise.",
    rule="Holds if l2's grey is the middle and every perceptual loss's image is nearer to an "
    "answer than any pixel loss's, by a fifth; in part if some of this is so.",
    measure=measure,
    verdict=verdict,
    draw=draw,
    table=table,
    source="P. Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, "
    "CVPR 2017; D. Amir, Y. Weiss, CVPR 2021",
)
