"""Claims about training, on one small task: a network makes photographs four times as large."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

import perceptual_jax as pj
from experiments.claims.claim import Claim, Measured, Setting, Verdict, verdict_on
from experiments.claims.trained import (
    LPIPS,
    Task,
    draw_ends,
    draw_on_the_way,
    ends,
    judge_by,
    table,
    under_each,
)
from experiments.common.crops import learned_from, pictures_to_judge
from experiments.common.generators import network
from experiments.super_resolution.networks import Enlarger
from experiments.super_resolution.pairs import Pairs, small

__all__ = ["CONVERGENCE", "LAYERS", "MIXTURES"]

_SCALE, _CROP, _BATCH = 4, 16, 4
_SIDE = _SCALE * _CROP
_MS_SSIM = "ms-ssim(levels=3)"
_RATE = 2e-3


# --- The task ------------------------------------------------------------------------------


def task_of(setting: Setting, given: np.ndarray, wanted: np.ndarray) -> Task:
    """Enlarging crops of embedded photographs; what it makes of other crops is judged."""
    made_by = network(Enlarger(_SCALE, 2, 16), (1, _CROP, _CROP, 3))
    pairs = Pairs(
        learned_from("embedded", _SIDE), crop=_CROP, scale=_SCALE, resizer="bicubic",
        seed=setting.seed,
    )  # fmt: skip
    return Task(
        made_by,
        jax.jit(made_by.use),
        lambda step: pairs.batch(step, _BATCH),
        _BATCH,
        _RATE,
        given,
        judge_by((LPIPS, _MS_SSIM), wanted, setting.seed),
    )


def measure(setting: Setting, *, claim: str, losses: Mapping[str, pj.Distance]) -> Measured:
    """What networks come to under each of the losses."""
    given, wanted = _test_crops()
    numbers, made = under_each(setting, task_of(setting, given, wanted), claim, losses)
    row = [(wanted[0], "original"), *((images[0], name) for name, images in made.items())]
    return Measured(numbers, {"a test picture": row})


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


# --- Convergence ---------------------------------------------------------------------------

_PIXELS, _PERCEPTUAL = ("l1", "l2"), ("vgg16", "lpips-vgg")


def at_time(each: Mapping[str, Any], seconds: float) -> float:
    """The LPIPS that training has reached after so many seconds, on lines between snapshots."""
    times = [step * each["seconds"] for step in each["steps"]]
    return float(np.interp(seconds, times, each[LPIPS]))


def converges(numbers: dict[str, Any]) -> Verdict:
    """Whether perceptual losses reach a lower LPIPS, at equal steps and in equal time."""
    under = numbers["under"]
    pixels = np.min([under[name][LPIPS] for name in _PIXELS], axis=0)
    budget = min(under[name]["steps"][-1] * under[name]["seconds"] for name in _PIXELS)
    in_time = min(at_time(under[name], budget) for name in _PIXELS)
    return verdict_on(
        [
            part
            for name in _PERCEPTUAL
            for part in (
                bool((np.array(under[name][LPIPS]) < pixels).all()),
                at_time(under[name], budget) < in_time,
            )
        ]
    )


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
    draw=partial(draw_on_the_way, measures=(LPIPS,), in_time=True),
    table=partial(table, measures=(LPIPS, "psnr", "sharpness")),
    source="J. Johnson, A. Alahi, L. Fei-Fei, Perceptual Losses for Real-Time Style Transfer and "
    "Super-Resolution, ECCV 2016",
)


# --- Mixtures ------------------------------------------------------------------------------

_MEASURES = {"psnr": 1, LPIPS: -1, _MS_SSIM: -1}
"""`{measure: 1 if more is better, -1 if less}`."""


def _mixture_losses() -> dict[str, pj.Distance]:
    parts = {"ms-ssim": pj.make(_MS_SSIM), "l1": pj.make("l1")}
    parts["lpips-vgg"] = pj.make("lpips-vgg")
    # Weights make the parts about as large as each other on enlargements by bicubic filters.
    weighed = {"ms-ssim": (1.0, parts["ms-ssim"]), "l1": (1.0, parts["l1"])}
    weighed["lpips-vgg"] = (0.2, parts["lpips-vgg"])
    return {**parts, "all three": pj.weighted_sum(weighed, name="ms-ssim + l1 + 0.2 * lpips-vgg")}


def mixes(numbers: dict[str, Any]) -> Verdict:
    """Whether the mixture is nearer to its best part than to its worst, by every measure."""
    parts = []
    for name, sign in _MEASURES.items():
        last = ends(numbers, name)
        own = sign * last.pop("all three")
        best, worst = max(sign * v for v in last.values()), min(sign * v for v in last.values())
        parts.append(own > (best + worst) / 2)
    return verdict_on(parts)


MIXTURES = Claim(
    says="A mixture does what its parts do: MS-SSIM for contrast, l1 for colour, LPIPS for the "
    "scene.",
    how=f"{_TASK} PSNR, MS-SSIM and LPIPS on AlexNet judge what the parts and the mixture come to.",
    rule="Holds if the mixture is nearer to its best part than to its worst by all three measures; "
    "in part if by some.",
    measure=partial(measure, claim="mixtures", losses=_mixture_losses()),
    verdict=mixes,
    draw=partial(draw_ends, measures=tuple(_MEASURES)),
    table=partial(table, measures=(*_MEASURES, "sharpness")),
    source="H. Zhao et al., Loss Functions for Image Restoration with Neural Networks, IEEE "
    "Transactions on Computational Imaging 2017",
)


# --- Layers --------------------------------------------------------------------------------

_DEPTHS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


def shallow(numbers: dict[str, Any]) -> Verdict:
    """Whether each of the first two layers is better than each of the last two, by both."""
    psnr, lpips = ends(numbers, "psnr"), ends(numbers, LPIPS)
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
    draw=partial(draw_ends, measures=("psnr", LPIPS)),
    table=partial(table, measures=("psnr", LPIPS, "sharpness")),
    source="C. Ledig et al., Photo-Realistic Single Image Super-Resolution Using a Generative "
    "Adversarial Network, CVPR 2017, which found deep layers better",
)
