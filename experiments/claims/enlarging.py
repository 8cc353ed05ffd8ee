"""Claims about training, on one small task: a network makes photographs four times as large."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.claims.claim import Claim, Measured, Setting, Verdict, verdict_on
from experiments.common.crops import learned_from, pictures_to_judge
from experiments.common.generators import Network, network
from experiments.common.training import Method, Schedule, Source, State, train
from experiments.compare import Score, scorer
from experiments.invert import psnr
from experiments.super_resolution.networks import Enlarger
from experiments.super_resolution.pairs import Pairs, small
from perceptual_jax.statistics import relative_sharpness

__all__ = ["CONVERGENCE", "LAYERS", "MIXTURES"]

_SCALE, _CROP, _BATCH, _SNAPSHOTS = 4, 16, 4, 6
_SIDE = _SCALE * _CROP
_JUDGES = ("lpips-alex", "ms-ssim(levels=3)")
_RATE = 2e-3


# --- The task ------------------------------------------------------------------------------


class _Task(NamedTuple):
    """What the trainings of a claim share, compiled once for all of them.

    Attributes:
      made_by: the network.
      use: the same, jitted.
      pairs: what is learned from.
      given: test crops, small: [n, s, s, 3] in [0, 1].
      wanted: and as they should be.
      score: of what is made of them, by the judges.
    """

    made_by: Network
    use: Callable[..., Any]
    pairs: Pairs
    given: np.ndarray
    wanted: np.ndarray
    score: Score


def _task(setting: Setting) -> _Task:
    made_by = network(Enlarger(_SCALE, 2, 16), (1, _CROP, _CROP, 3))
    pairs = Pairs(
        learned_from("embedded", _SIDE), crop=_CROP, scale=_SCALE, resizer="bicubic",
        seed=setting.seed,
    )  # fmt: skip
    _, score = scorer([pj.make(spec) for spec in _JUDGES], setting.seed)
    return _Task(made_by, jax.jit(made_by.use), pairs, *_test_crops(), score)


def trained(setting: Setting, task: _Task, claim: str, loss: pj.Distance) -> dict[str, Any]:
    """What a network comes to under a loss, on pictures that it did not learn from.

    Returns:
      `{"steps": [...], "psnr": [...], "lpips-alex": [...], ..., "seconds": of a step, "crop": the
      first test crop as it makes it}`, lists of each snapshot.
    """
    steps = max(setting.training_steps // _SNAPSHOTS, 1) * _SNAPSHOTS
    every = steps // _SNAPSHOTS
    made_by, use, pairs, given, wanted, score = task
    since = time.perf_counter()

    def watch(step: int, state: State) -> dict[str, Any]:
        nonlocal since
        jax.block_until_ready(state.params)
        seconds = (time.perf_counter() - since) / every
        made = np.clip(np.asarray(use(jax.device_get(state.params), {}, given)), 0, 1)
        values = {
            name: float(np.mean(v)) for name, v in jax.device_get(score(made, wanted)).items()
        }
        since = time.perf_counter()
        return {
            **values,
            "seconds": seconds,
            "psnr": psnr(made, wanted),
            "sharpness": float(np.mean(relative_sharpness(made, wanted))),
        }

    state, metrics = train(
        Method(made_by, loss, optax.adam(optax.cosine_decay_schedule(_RATE, steps))),
        Source(lambda step: pairs.batch(step, _BATCH)),
        Schedule(steps, _BATCH, every, setting.seed),
        key=jax.random.key(setting.seed),
        label={"claim": claim, "under": loss.name},
        folder=setting.folder,
        asked_to_stop=setting.asked_to_stop,
        snapshot=watch,
    )
    crop = np.clip(np.asarray(use(state.params, {}, given)), 0, 1)[0]
    names = ("psnr", "sharpness", *_JUDGES)
    return {
        "steps": [line["step"] for line in metrics],
        **{name: [line[name] for line in metrics] for name in names},
        # The first stretch compiles.
        "seconds": float(np.median([line["seconds"] for line in metrics[1:]])),
        "crop": crop,
    }


def _test_crops() -> tuple[np.ndarray, np.ndarray]:
    """Middles of the test pictures, small and as they should be: [n, s, s, 3] in [0, 1]."""
    pictures = [
        p for found in pictures_to_judge(("embedded",), _SCALE).values() for p in found.values()
    ]
    wanted = []
    for picture in pictures:
        top, left = ((length - 2 * _SIDE) // 2 for length in picture.shape[:2])
        wanted.append(picture[top : top + 2 * _SIDE, left : left + 2 * _SIDE])
    given = [small(image, _SCALE, "bicubic") for image in wanted]
    return np.float32(1 / 255) * np.stack(given), np.float32(1 / 255) * np.stack(wanted)


def measure(setting: Setting, *, claim: str, losses: Mapping[str, pj.Distance]) -> Measured:
    """What networks come to under each of the losses."""
    task = _task(setting)
    found = {name: trained(setting, task, claim, loss) for name, loss in losses.items()}
    row = [(task.wanted[0], "original")]
    row += [(each.pop("crop"), name) for name, each in found.items()]
    return Measured({"under": found}, {"a test picture": row})


def table(numbers: dict[str, Any], *, measures: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """What each came to in the end."""
    rows = [
        [name, *(f"{each[m][-1]:.4g}" for m in measures), f"{1e3 * each['seconds']:.0f}"]
        for name, each in numbers["under"].items()
    ]
    return ["trained under", *measures, "ms a step"], rows


def _last(numbers: dict[str, Any], measure: str) -> dict[str, float]:
    return {name: each[measure][-1] for name, each in numbers["under"].items()}


# --- Convergence ---------------------------------------------------------------------------

_PIXELS, _PERCEPTUAL = ("l1", "l2"), ("vgg16", "lpips-vgg")


def at_time(each: Mapping[str, Any], seconds: float) -> float:
    """The LPIPS that training has reached after so many seconds, on lines between snapshots."""
    times = [step * each["seconds"] for step in each["steps"]]
    return float(np.interp(seconds, times, each["lpips-alex"]))


def converges(numbers: dict[str, Any]) -> Verdict:
    """Whether perceptual losses reach a lower LPIPS, at equal steps and in equal time."""
    under = numbers["under"]
    pixels = np.min([under[name]["lpips-alex"] for name in _PIXELS], axis=0)
    budget = min(under[name]["steps"][-1] * under[name]["seconds"] for name in _PIXELS)
    in_time = min(at_time(under[name], budget) for name in _PIXELS)
    return verdict_on(
        [
            part
            for name in _PERCEPTUAL
            for part in (
                bool((np.array(under[name]["lpips-alex"]) < pixels).all()),
                at_time(under[name], budget) < in_time,
            )
        ]
    )


def draw_convergence(numbers: dict[str, Any]) -> tuple[Figure, str]:
    """LPIPS against steps and against seconds."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, each in numbers["under"].items():
        left.plot(each["steps"], each["lpips-alex"], marker="o", markersize=3, label=name)
        seconds = [step * each["seconds"] for step in each["steps"]]
        right.plot(seconds, each["lpips-alex"], marker="o", markersize=3)
    left.set(xlabel="step", ylabel="lpips-alex of test pictures")
    right.set(xlabel="seconds of training", xscale="log")
    left.legend(fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure, "LPIPS of test pictures against steps and against time"


_TASK = (
    "A small network learns to make embedded photographs four times as large, from the same start "
    "and on the same crops under each loss; it is judged on photographs that it did not see."
)
CONVERGENCE = Claim(
    says="Training under perceptual losses comes to what looks right sooner than under pixel "
    "losses.",
    how=f"{_TASK} LPIPS on AlexNet, which is none of the losses, against steps and against time.",
    rule="Holds if VGG's and LPIPS's features are below l1 and l2 at every snapshot, and after the "
    "time that these take; in part if some of this is so.",
    measure=partial(
        measure,
        claim="convergence",
        losses={name: pj.make(name) for name in (*_PIXELS, *_PERCEPTUAL)},
    ),
    verdict=converges,
    draw=draw_convergence,
    table=partial(table, measures=("lpips-alex", "psnr", "sharpness")),
    source="J. Johnson, A. Alahi, L. Fei-Fei, Perceptual Losses for Real-Time Style Transfer and "
    "Super-Resolution, ECCV 2016",
)


# --- Mixtures ------------------------------------------------------------------------------

_MEASURES = {"psnr": 1, "lpips-alex": -1, "ms-ssim(levels=3)": -1}
"""`{measure: 1 if more is better, -1 if less}`."""


def _mixture_losses() -> dict[str, pj.Distance]:
    parts = {"ms-ssim": pj.make("ms-ssim(levels=3)"), "l1": pj.make("l1")}
    parts["lpips-vgg"] = pj.make("lpips-vgg")
    # Weights make the parts about as large as each other on enlargements by bicubic filters.
    weighed = {"ms-ssim": (1.0, parts["ms-ssim"]), "l1": (1.0, parts["l1"])}
    weighed["lpips-vgg"] = (0.2, parts["lpips-vgg"])
    return {**parts, "all three": pj.weighted_sum(weighed, name="ms-ssim + l1 + 0.2 * lpips-vgg")}


def mixes(numbers: dict[str, Any]) -> Verdict:
    """Whether the mixture is nearer to its best part than to its worst, by every measure."""
    parts = []
    for name, sign in _MEASURES.items():
        last = _last(numbers, name)
        own = sign * last.pop("all three")
        best, worst = max(sign * v for v in last.values()), min(sign * v for v in last.values())
        parts.append(own > (best + worst) / 2)
    return verdict_on(parts)


def draw_measures(numbers: dict[str, Any], *, measures: Sequence[str]) -> tuple[Figure, str]:
    """Bars of each measure."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(measures)), measures, strict=True):
        last = _last(numbers, name)
        axes.bar(list(last), list(last.values()))
        axes.set_ylabel(name)
        axes.tick_params(axis="x", rotation=45)
        axes.spines[["top", "right"]].set_visible(False)
        low, high = min(last.values()), max(last.values())
        axes.set_ylim(max(low - 0.5 * (high - low), 0), high + 0.1 * (high - low) + 1e-9)
    return figure, f"{', '.join(measures)} of test pictures, by what was trained under"


MIXTURES = Claim(
    says="A mixture does what its parts do: MS-SSIM for contrast, l1 for colour, LPIPS for the "
    "scene.",
    how=f"{_TASK} PSNR, MS-SSIM and LPIPS on AlexNet judge what the parts and the mixture come to.",
    rule="Holds if the mixture is nearer to its best part than to its worst by all three measures; "
    "in part if by some.",
    measure=partial(measure, claim="mixtures", losses=_mixture_losses()),
    verdict=mixes,
    draw=partial(draw_measures, measures=tuple(_MEASURES)),
    table=partial(table, measures=(*_MEASURES, "sharpness")),
    source="H. Zhao et al., Loss Functions for Image Restoration with Neural Networks, IEEE "
    "Transactions on Computational Imaging 2017",
)


# --- Layers --------------------------------------------------------------------------------

_DEPTHS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


def shallow(numbers: dict[str, Any]) -> Verdict:
    """Whether each of the first two layers is better than each of the last two, by both."""
    psnr, lpips = _last(numbers, "psnr"), _last(numbers, "lpips-alex")
    first, last = _DEPTHS[:2], _DEPTHS[3:]
    return verdict_on(
        [
            min(psnr[name] for name in first) > max(psnr[name] for name in last),
            max(lpips[name] for name in first) < min(lpips[name] for name in last),
        ]
    )


LAYERS = Claim(
    says="For super-resolution, shallow layers make better losses than deep ones.",
    how=f"{_TASK} Each loss is of one layer of VGG-16 alone.",
    rule="Holds if each of the first two layers comes to a higher PSNR and a lower LPIPS on "
    "AlexNet than each of the last two; in part if by one of these.",
    measure=partial(
        measure,
        claim="layers",
        losses={name: pj.make("vgg16", layers=(name,), metric="l2") for name in _DEPTHS},
    ),
    verdict=shallow,
    draw=partial(draw_measures, measures=("psnr", "lpips-alex")),
    table=partial(table, measures=("psnr", "lpips-alex", "sharpness")),
    source="C. Ledig et al., Photo-Realistic Single Image Super-Resolution Using a Generative "
    "Adversarial Network, CVPR 2017, which found deep layers better",
)
