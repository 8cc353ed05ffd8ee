"""Claims about agreement with people: of features before ReLU, norms, and random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments import two_afc
from experiments.claims.claim import Claim, Measured, Setting, Verdict, verdict_on
from experiments.common.choices import agreement, compare_distortions, distorted_picture
from experiments.common.data import EMBEDDED
from experiments.common.figures import panels
from experiments.common.progress import progress
from experiments.common.run_folder import is_begun
from experiments.compare import scorer

__all__ = ["NORMS", "RELU", "UNTRAINED"]

_LAYERS = ("1_2", "2_2", "3_3", "4_3", "5_3")


def _vgg(which: str, metric: str) -> str:
    layers = ", ".join(f"'{which}{layer}'" for layer in _LAYERS)
    return f"vgg16(layers=({layers}), metric='{metric}')"


def _alexnet(which: str, metric: str) -> str:
    layers = ", ".join(f"'{which}{number}'" for number in range(1, 6))
    return f"alexnet(layers=({layers}), metric='{metric}')"


Pair = tuple[str, str]
"""The distance that is said to be better, and the other."""

_METRICS = ("l1", "l2", "cosine")
RELU_PAIRS: dict[str, Pair] = {
    f"{network}, {metric}": (of("conv", metric), of("relu", metric))
    for network, of in (("VGG-16", _vgg), ("AlexNet", _alexnet))
    for metric in _METRICS
}
NORM_PAIRS: dict[str, Pair] = {
    f"{network}, {side} ReLU": (of(which, "l1"), of(which, "l2"))
    for network, of in (("VGG-16", _vgg), ("AlexNet", _alexnet))
    for side, which in (("before", "conv"), ("after", "relu"))
}
UNTRAINED_PAIRS: dict[str, Pair] = {
    name: (name, "vgg16") for name in ("l2", "vgg16-random", "vgg16-random-zero-mean", "mmd++")
}
ALL = tuple(
    dict.fromkeys(
        spec
        for pairs in (RELU_PAIRS, NORM_PAIRS, UNTRAINED_PAIRS)
        for pair in pairs.values()
        for spec in pair
    )
)


# --- Measuring -----------------------------------------------------------------------------


def measure(setting: Setting, *, pairs: Mapping[str, Pair]) -> Measured:
    """Scores of both sides of each pair, and their difference; with its interval, of people."""
    specs = list(dict.fromkeys(spec for pair in pairs.values() for spec in pair))
    scores, difference = (
        _by_choices(setting, specs) if setting.judgements == "embedded" else _by_people(setting)
    )
    found = {
        name: {
            "scores": [scores[_name(spec)] for spec in pair],
            "difference": difference(*map(_name, pair)),
        }
        for name, pair in pairs.items()
    }
    return Measured({"human": setting.judgements != "embedded", "pairs": found}, {})


def _name(spec: str) -> str:
    return pj.make(spec).name


Difference = Callable[[str, str], list[float]]
"""`(one, other) -> [mean, low, high]` of the difference of their scores."""


def _by_people(setting: Setting) -> tuple[dict[str, float], Difference]:
    """Of all claims' distances at once: networks are passed once, and the run is found again."""
    scores = two_afc.run(
        two_afc.Config(
            data=setting.judgements,
            distances=ALL,
            seed=setting.seed,
            out=str(setting.folder.path),
            name="judgements",
            resume=is_begun(setting.folder.path, "two-afc", "judgements"),
        )
    )
    means = scores.scores[scores.parts[-1]].mean

    def difference(one: str, other: str) -> list[float]:
        row, column = scores.names.index(one), scores.names.index(other)
        return [float(part[row, column]) for part in scores.differences]

    return dict(zip(scores.names, map(float, means), strict=True)), difference


def _by_choices(setting: Setting, specs: Sequence[str]) -> tuple[dict[str, float], Difference]:
    """A stand-in where nobody was asked; no interval is known."""
    _, score = scorer([pj.make(spec) for spec in specs], setting.seed)
    values = []
    with progress("choices", setting.pictures, unit="photographs") as advance:
        for name in EMBEDDED[: setting.pictures]:
            values.append(compare_distortions(score, *distorted_picture(name, setting.size)))
            advance()
    agreed = agreement([_name(spec) for spec in specs], values)
    scores = {name: row["all"] for name, row in agreed.items()}
    return scores, lambda one, other: [scores[one] - scores[other]] * 3


# --- Judging and showing -------------------------------------------------------------------


def better(numbers: dict[str, Any]) -> Verdict:
    """Whether the first of each pair scores higher, beyond chance; people must have said."""
    if not numbers["human"]:
        return "undecided"
    return verdict_on([pair["difference"][1] > 0 for pair in numbers["pairs"].values()])


_AS_WELL = 0.02


def as_good(numbers: dict[str, Any]) -> Verdict:
    """Whether zero-mean VGG and MMD++ are within a fiftieth of trained VGG, or beat l2 at least."""
    if not numbers["human"]:
        return "undecided"
    pairs = numbers["pairs"]
    behind_l2 = pairs["l2"]["difference"][0]
    return verdict_on(
        [
            test
            for name in ("vgg16-random-zero-mean", "mmd++")
            for test in (
                pairs[name]["difference"][0] > -_AS_WELL,
                pairs[name]["difference"][0] > behind_l2,
            )
        ]
    )


def draw(numbers: dict[str, Any]) -> tuple[Figure, str]:
    """Differences with their intervals."""
    names = list(numbers["pairs"])
    figure, (axes,) = panels(size=(8, 0.6 + 0.4 * len(names)))
    mean, low, high = np.array([numbers["pairs"][name]["difference"] for name in names]).T
    axes.barh(names, mean, xerr=[mean - low, high - mean], color="tab:blue", alpha=0.7)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("difference of the scores")
    return figure, "How much better the first of each pair scores than the other"


def table(numbers: dict[str, Any], *, headers: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Both scores, their difference, and its interval where there is one."""
    rows = []
    for name, pair in numbers["pairs"].items():
        mean, low, high = pair["difference"]
        interval = f"{low:+.3f} to {high:+.3f}" if numbers["human"] else "nobody was asked"
        rows.append([name, *(f"{score:.3f}" for score in pair["scores"]), f"{mean:+.3f}", interval])
    return ["", *headers, "difference", "95% interval"], rows


_HOW = (
    "Scores are how often a distance takes the same of two pictures for the nearer one as people "
    "do, over triplets that they judged. Where there are none (--judgements names them), scores "
    "are over photographs with damage that people are known to mind or not, and decide nothing."
)
RELU = Claim(
    says="Features taken before the ReLU agree with people better than those taken after it.",
    how=f"{_HOW} VGG-16 and AlexNet, five layers each, by three metrics.",
    rule="Holds if before is better for both networks and all metrics, beyond the intervals; in "
    "part if for some.",
    measure=partial(measure, pairs=RELU_PAIRS),
    verdict=better,
    draw=draw,
    table=partial(table, headers=("before", "after")),
    source="X. Wang et al., ESRGAN, ECCV Workshops 2018",
)
NORMS = Claim(
    says="Features are better compared by absolute than by squared differences.",
    how=f"{_HOW} VGG-16 and AlexNet, five layers each, before and after the ReLU.",
    rule="Holds if l1 is better in all four cases, beyond the intervals; in part if in some.",
    measure=partial(measure, pairs=NORM_PAIRS),
    verdict=better,
    draw=draw,
    table=partial(table, headers=("l1", "l2")),
    source="Q. Chen, V. Koltun, Photographic Image Synthesis with Cascaded Refinement Networks, "
    "ICCV 2017, compare by l1",
)
UNTRAINED = Claim(
    says="Nothing need be trained: MMD++, and VGG with random filters without their mean, agree "
    "with people as well as VGG trained on ImageNet.",
    how=f"{_HOW} Each against trained VGG-16.",
    rule=f"Holds if both are less than {_AS_WELL} behind trained VGG; in part if one is, or beats "
    "l2.",
    measure=partial(measure, pairs=UNTRAINED_PAIRS),
    verdict=as_good,
    draw=draw,
    table=partial(table, headers=("score", "trained VGG-16")),
    source="D. Amir, Y. Weiss, Understanding and Simplifying Perceptual Distances, CVPR 2021",
)
