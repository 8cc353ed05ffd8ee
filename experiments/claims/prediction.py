"""What features add to pixels in what a decoder is trained under, by their weight."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import perceptual_jax as pj
from experiments.claims.claim import Claim, Measured, Setting, Verdict, verdict_on
from experiments.claims.trained import (
    LPIPS,
    Task,
    draw_on_the_way,
    ends,
    judge_by,
    table,
    under_each,
)
from experiments.common.batches import floats
from experiments.common.generators import Autoencoder, network
from experiments.common.learned import Pictures, learned_and_held_out
from experiments.common.training import Batch

__all__ = ["CLAIM"]

_SIZE, _CODE, _WIDTH, _BATCH, _RATE = 64, 64, 0.25, 8, 2e-3
_PIXELS, _FEATURES = "l2", "vgg16"
_SHARES = (0.1, 1.0, 10.0)
"""How large features are beside pixels, where the decoder answers with grey."""
_FREE = 0.2
"""The loss of PSNR that counts as none, in dB."""


def measure(setting: Setting) -> Measured:
    """What decoders come to under pixels alone, features alone, and sums of both."""
    learned, held = learned_and_held_out(
        "embedded", size=_SIZE, count=160, held_out=0.1, seed=setting.seed
    )
    wanted = floats(held.images)
    task = _task(setting, learned, wanted)
    numbers, made = under_each(setting, task, "prediction", _losses(setting, wanted))
    rows = {
        f"held out {i + 1}": [(wanted[i], "original"), *((made[n][i], n) for n in made)]
        for i in range(min(3, len(wanted)))
    }
    return Measured(numbers, rows)


def _task(setting: Setting, learned: Pictures, wanted: np.ndarray) -> Task:
    made_by = network(Autoencoder(_SIZE, _CODE, _WIDTH), (2, _SIZE, _SIZE, 3))

    def take(step: int) -> Batch:
        rng = np.random.default_rng([setting.seed, 8, step])
        images = learned.images[rng.choice(len(learned.images), _BATCH, replace=False)]
        return Batch(images, images)

    judge = judge_by((LPIPS, _FEATURES), wanted, setting.seed)
    return Task(made_by, jax.jit(made_by.use), take, _BATCH, _RATE, wanted, judge)


def _losses(setting: Setting, wanted: np.ndarray) -> dict[str, pj.Distance]:
    pixels, features = pj.make(_PIXELS), pj.make(_FEATURES)

    def of_grey(distance: pj.Distance) -> float:
        params = distance.init(jax.random.key(setting.seed))
        compared: Callable = jax.jit(distance.__call__)
        return float(compared(params, np.full_like(wanted, 0.5), wanted).mean())

    unit = of_grey(pixels) / of_grey(features)
    sums = {}
    for share in _SHARES:
        weight = float(f"{share * unit:.2g}")
        name = f"{_PIXELS} + {weight:g} * {_FEATURES}"
        parts = {_PIXELS: (1.0, pixels), _FEATURES: (weight, features)}
        sums[name] = pj.weighted_sum(parts, name=name)
    return {_PIXELS: pixels, **sums, _FEATURES: features}


def verdict(numbers: dict[str, Any]) -> Verdict:
    """Whether some sum is ahead in LPIPS all the way, and whether one of those costs no PSNR."""
    under, psnr = numbers["under"], ends(numbers, "psnr")
    alone = np.array(under[_PIXELS][LPIPS])
    ahead = [
        name
        for name, each in under.items()
        if name not in (_PIXELS, _FEATURES) and (np.array(each[LPIPS]) < alone).all()
    ]
    free = any(psnr[name] > psnr[_PIXELS] - _FREE for name in ahead)
    return verdict_on([bool(ahead), free])


CLAIM = Claim(
    says="Features added to pixels make a decoder's images right sooner, and cost nothing in "
    "pixels.",
    how="An encoder and a decoder learn embedded photographs' views through a code of "
    f"{_CODE} numbers, from the same start and on the same batches, under l2, under VGG-16's "
    "features, and under sums of both in which features of a grey answer are "
    f"{', '.join(f'{share:g}' for share in _SHARES)} times as large as its l2. Views held out are "
    "judged by LPIPS on AlexNet, by the features, and in PSNR.",
    rule="Holds if under some sum LPIPS is below that of l2 alone at every snapshot, and its PSNR "
    f"in the end is less than {_FREE:g} dB below; in part if only the first is so.",
    measure=measure,
    verdict=verdict,
    draw=partial(draw_on_the_way, measures=(LPIPS, _FEATURES, "psnr")),
    table=partial(table, measures=(LPIPS, _FEATURES, "psnr", "sharpness")),
    source="A. Dosovitskiy, T. Brox, Generating Images with Perceptual Similarity Metrics based on "
    "Deep Networks, NeurIPS 2016",
)
