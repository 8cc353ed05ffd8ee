"""Which distance sees like people do? Two-alternative forced choice over triplets of images.

People are shown a reference and two images and say which is nearer to it. A distance chooses the
nearer one too; its score is the fraction of people who agree, half where it cannot choose.

    perceptual-jax two-afc                              # a stand-in, drawn; no human data
    perceptual-jax two-afc --data triplets.csv          # ref,p0,p1,judge[,votes][,split]
    perceptual-jax two-afc --data BAPPS                 # the authors' folders
    perceptual-jax two-afc --test jnd --data BAPPS      # same or not the same

References:
  R. Zhang, P. Isola, A. Efros, E. Shechtman, O. Wang, "The Unreasonable Effectiveness of Deep
  Features as a Perceptual Metric", CVPR 2018, https://arxiv.org/abs/1801.03924
"""

from __future__ import annotations

import csv
import dataclasses
import io
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from experiments.common.loop import Interrupted, interruptible
from experiments.common.options import made
from experiments.common.pairs import Stopped, distances_of_pairs
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, resumed, start
from experiments.common.triplets import (
    STAND_IN_NOTE,
    Judgements,
    Test,
    judgements,
    pairs_of,
    read_resized,
)
from perceptual_jax._files import write_whole
from perceptual_jax.errors import InputError, choice
from perceptual_jax.statistics import (
    Interval,
    bootstrap_means,
    human_ceiling,
    interval,
    jnd_average_precision,
    two_afc_agreement,
)

__all__ = ["PRESETS", "Config", "Scores", "run", "score_figure", "table_of"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax two-afc`."""

    data: str = "embedded"
    """"embedded" (a stand-in: no person judged it), a CSV manifest, a folder of BAPPS, or
    "tfds:bapps/val" (experiments/common/bapps_tfds.py prepares it). A manifest's first line is
    ref,p0,p1,judge: three files, relative to its folder, and the fraction of people who chose p1;
    votes (how many people) and split (a part of the data set) may follow."""
    test: Test = "2afc"
    """"2afc", which of two images is nearer; or "jnd", whether two are the same."""
    distances: tuple[str, ...] = (
        "l1", "l2", "ssim", "patch-rbf", "mmd++", "swd", "vgg16-random", "vgg16-random-zero-mean",
        "vgg16", "vgg16(metric='gram')", "lpips-alex", "lpips-vgg",
    )  # fmt: skip
    """Distances of the catalogue, as names or as calls: "vgg16(metric='l2')"."""
    size: int = 64
    """Every image is resized to this side, in pixels, by Pillow's bicubic filter."""
    subset: str = "val"
    """Of BAPPS: "val" or "train"."""
    per_distortion: int = 60
    """Of the stand-in: how many triplets of each of its six distortions."""
    by_votes: bool = False
    """Weigh triplets by how many people judged them, instead of all alike."""
    resamples: int = 1000
    """How many data sets are drawn, with replacement, for the intervals."""
    images_at_once: int = 128
    """How many images a device embeds at once. What holds all images embeds each of them once."""
    pairs_at_once: int = 64
    """How many pairs a device compares at once."""
    seed: int = 0
    """Of all random draws."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


_MANY = (
    "l1", "l2", "charbonnier", "gradient", "fft-l1", "laplacian-pyramid", "ssim",
    "ms-ssim(levels=3)", "gmsd", "patch-rbf", "patch-laplace", "patch-rbf-joint", "oriented-edges",
    "gabor", "mmd-linear", "mmd-rff", "mmd++", "mmd+++", "swd", "swd++", "windowed-swd",
    "lap-swd", "contextual", "vgg16-random", "vgg16-random-zero-mean", "alexnet-random",
    "alexnet-random-zero-mean", "vgg16", "vgg16(metric='l2')", "vgg16(metric='cosine')",
    "vgg16(metric='gram')", "vgg16(layers='relu3_3')", "alexnet", "alexnet(metric='cosine')",
    "alexnet(metric='gram')", "lpips-alex", "lpips-vgg",
    "lpips-alex(heads=False)", "lpips-vgg(heads=False)", "dists",
)  # fmt: skip

PRESETS = {
    "quick": Config(
        distances=("l1", "l2", "ssim", "mmd++", "alexnet", "lpips-alex"), per_distortion=20
    ),
    "default": Config(),
    "paper": Config(distances=_MANY, per_distortion=200),
}


@dataclasses.dataclass(frozen=True)
class Scores:
    """What distances scored.

    Attributes:
      names: of the distances, [m].
      parts: the splits' names, and "all" if there are several.
      scores: of every part, of every distance: `{part: Interval of [m]}`.
      ceiling: what people score, `{part: mean}`; empty for JND, and where nobody was asked.
      differences: of two distances' scores over all, row less column: Interval of [m, m].
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    scores: dict[str, Interval]
    ceiling: dict[str, float]
    differences: Interval

    @property
    def ranked(self) -> list[int]:
        """The distances' places among the names, best first over all."""
        means = self.scores[self.parts[-1]].mean
        return np.argsort(-means, kind="stable").tolist()


def run(config: Config) -> Scores:
    """Scores the distances and writes the run's folder.

    Raises:
      InputError: for data or options that cannot be used; nothing is scored in part.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("two-afc", config)
    _check(config)
    distances = made(config.distances, config.size)
    data = judgements(
        config.data,
        config.test,
        subset=config.subset,
        per_distortion=config.per_distortion,
        size=config.size,
        seed=config.seed,
    )
    if config.by_votes and data.votes is None:
        raise InputError("--by-votes needs data that says how many people voted")
    folder = start("two-afc", config, distances=distances)
    read = partial(read_resized, data, config.size)
    with interruptible() as asked_to_stop:
        try:
            found = distances_of_pairs(
                distances,
                pairs_of(data.items),
                read,
                folder.shared / "distances",
                seed=config.seed,
                images_at_once=config.images_at_once,
                pairs_at_once=config.pairs_at_once,
                asked_to_stop=asked_to_stop,
            )
        except Stopped:
            raise Interrupted(f"stopped; go on with: {folder.resume_command}") from None
    names = tuple(distance.name for distance in distances)
    found = found.reshape(len(names), len(data.items), -1)
    scores = score(config, data, names, found)
    _write(config, folder, data, found, scores)
    return scores


def _check(config: Config) -> None:
    choice("--subset", config.subset, ("val", "train"))
    for field, least in {
        "size": 2, "per_distortion": 1, "resamples": 1, "images_at_once": 3, "pairs_at_once": 1,
    }.items():  # fmt: skip
        if getattr(config, field) < least:
            flag = f"--{field.replace('_', '-')}"
            raise InputError(f"{flag} must be at least {least}; got {getattr(config, field)}")


# --- Scores --------------------------------------------------------------------------------


def score(config: Config, data: Judgements, names: tuple[str, ...], found: np.ndarray) -> Scores:
    """Scores of distances [m, t, 1 or 2] on every split and on all of it, with 95% intervals."""
    weights = data.votes if config.by_votes and data.votes is not None else np.ones(len(data.judge))
    parts = {name: data.split == place for place, name in enumerate(data.splits)}
    if len(parts) > 1:
        parts["all"] = np.ones(len(data.judge), bool)
    scores, ceiling = {}, {}
    for part, mask in parts.items():
        judge, chosen, weigh = data.judge[mask], found[:, mask], weights[mask]
        draw = partial(bootstrap_means, samples=config.resamples, seed=config.seed)
        if config.test == "jnd":
            mean = jnd_average_precision(chosen[..., 0], judge)
            drawn = _drawn_precisions(chosen[..., 0], judge, config)
        else:
            agreement = two_afc_agreement(chosen[..., 0], chosen[..., 1], judge)
            mean = agreement @ weigh / weigh.sum()
            drawn = draw(agreement, weigh)
            if data.human:
                ceiling[part] = float(human_ceiling(judge) @ weigh / weigh.sum())
        scores[part] = interval(mean, drawn)
    # The last part is all of it.
    differences = interval(mean[:, None] - mean, drawn[:, :, None] - drawn[:, None, :])
    return Scores(names, tuple(parts), scores, ceiling, differences)


def _drawn_precisions(distances: np.ndarray, same: np.ndarray, config: Config) -> np.ndarray:
    """Of data sets drawn with replacement, but those in which nobody saw no difference."""
    rng = np.random.default_rng(config.seed)
    drawn = (rng.integers(0, same.size, same.size) for _ in range(config.resamples))
    return np.stack(
        [jnd_average_precision(distances[:, d], same[d]) for d in drawn if same[d].any()]
    )


# --- What is written -----------------------------------------------------------------------


def _write(
    config: Config, folder: RunFolder, data: Judgements, found: np.ndarray, scores: Scores
) -> None:
    header, rows = table_of(scores)
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    write_whole(folder.path / "results.csv", text.getvalue().encode())
    lines = [" | ".join(row) for row in (header, ["---"] + ["---:"] * (len(header) - 1), *rows)]
    write_whole(folder.path / "results.md", "".join(f"| {x} |\n" for x in lines).encode())
    folder.write_json("results.json", _as_json(config, data, scores))
    score_figure(scores, config.test, human=data.human).savefig(folder.path / "scores.png", dpi=110)
    report_on(config, data, found, scores).write(folder.path / "report.html")
    table = Table("distance", "score", "95% interval", box=None)
    for row in rows:
        table.add_row(row[0], row[-3], f"{row[-2]} to {row[-1]}" if row[-1] else "")
    console.print(table)
    if not data.human:
        console.print(STAND_IN_NOTE)
    console.print(f"report: {folder.path / 'report.html'}")


def table_of(scores: Scores, digits: int = 5) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: every distance's score on every part, best first; then people's."""
    last = scores.scores[scores.parts[-1]]

    def text(value: float) -> str:
        return f"{value:.{digits}f}"

    rows = [
        [
            scores.names[place],
            *(text(scores.scores[part].mean[place]) for part in scores.parts),
            text(last.low[place]),
            text(last.high[place]),
        ]
        for place in scores.ranked
    ]
    if scores.ceiling:
        rows.append(["people", *(text(scores.ceiling[part]) for part in scores.parts), "", ""])
    return ["distance", *scores.parts, "low", "high"], rows


def _as_json(config: Config, data: Judgements, scores: Scores) -> dict:
    def numbers(found: Interval, *place: int) -> dict[str, float]:
        return {key: float(value[place]) for key, value in found._asdict().items()}

    pairs = [(a, b) for a in range(len(scores.names)) for b in range(a)]
    return {
        "test": config.test,
        "human": data.human,
        "items": {
            **{name: int((data.split == i).sum()) for i, name in enumerate(data.splits)},
            "all": len(data.judge),
        },
        "images": len(data.names),
        "resized": {"side": config.size, "filter": "Pillow bicubic"},
        "scores": {
            name: {part: numbers(scores.scores[part], i) for part in scores.parts}
            for i, name in enumerate(scores.names)
        },
        "people": scores.ceiling,
        "differences": {
            f"{scores.names[a]} - {scores.names[b]}": numbers(scores.differences, a, b)
            for a, b in pairs
        },
    }


_ABOUT: dict[Test, str] = {
    "2afc": (
        "People were shown a reference and two images, and said which of the two is nearer to it. "
        "A distance chooses the nearer one as well. Its score is the fraction of people who agree "
        "with it, one half where it finds both equally far: chance is .5. Intervals hold 95% of "
        "the scores on data sets drawn from this one with replacement."
    ),
    "jnd": (
        "People were shown two images for a moment, and said whether they were the same. A "
        "distance that sees as they do puts the pairs they took for the same first. The score is "
        "the mean average precision of that order. Intervals hold 95% of the scores on data sets "
        "drawn from this one with replacement."
    ),
}


def report_on(config: Config, data: Judgements, found: np.ndarray, scores: Scores) -> Report:
    """The report's page."""
    ranked = scores.ranked
    report = Report("Which distance sees like people do?", _ABOUT[config.test])
    if not data.human:
        report.text(STAND_IN_NOTE)
    report.figure(
        score_figure(scores, config.test, human=data.human),
        "Every distance's score, with its interval",
    )
    report.table(*table_of(scores))
    if scores.ceiling:
        report.text(
            "People do not agree with each other: a person who chooses as often as all of them "
            f"do agrees with the others {scores.ceiling[scores.parts[-1]]:.3f} of the time. A "
            "distance can score more, by always choosing as most people do."
        )
    if len(scores.names) > 1:
        report.heading("Is the best one better?")
        report.text(
            "How far the others are behind the best, over the same triplets, with 95% intervals. "
            "An interval that holds 0 means that these data cannot tell."
        )
        best = ranked[0]
        report.table(
            [f"behind {scores.names[best]}", "difference", "low", "high"],
            [
                [scores.names[i], *(f"{part[best, i]:+.4f}" for part in scores.differences)]
                for i in ranked[1:]
            ],
        )
    if config.test == "2afc":
        _add_galleries(report, config, data, found, scores)
    report.how_it_was_made(
        config,
        f"{len(data.judge)} judgements of {len(data.names)} images, every image resized to "
        f"{config.size}x{config.size} pixels with Pillow's bicubic filter.",
    )
    return report


_SHOWN = 4


def _add_galleries(
    report: Report,
    config: Config,
    data: Judgements,
    found: np.ndarray,
    scores: Scores,
) -> None:
    ranked = scores.ranked
    d0, d1 = found[..., 0].astype(np.float64), found[..., 1].astype(np.float64)
    # From -1, the first image is much nearer, to 1, the second is.
    leaning = (d0 - d1) / np.maximum(d0 + d1, 1e-30)
    people = 2 * data.judge - 1
    report.heading("Where people and a distance disagree most")
    report.text(
        "For the three best distances and the last: the triplets of which it is surest among "
        "those that were decided the other way."
    )
    for place in [*ranked[:3], *ranked[3:][-1:]]:
        sure = -leaning[place] * people
        report.pictures(_triplet_rows(config, data, scores.names[place], leaning[place], sure))
    if len(ranked) > 1:
        report.heading("Where two distances disagree most")
        best = ranked[0]
        apart = np.abs(leaning - leaning[best]).mean(axis=1)
        other = int(np.argmax(apart))
        report.text(f"{scores.names[best]} and {scores.names[other]}, which differ most.")
        names = f"{scores.names[best]} against {scores.names[other]}"
        sure = -leaning[best] * leaning[other]
        report.pictures(_triplet_rows(config, data, names, leaning[best], sure))


def _triplet_rows(
    config: Config,
    data: Judgements,
    label: str,
    leaning: np.ndarray,
    worst: np.ndarray,
) -> dict[str, list[tuple[np.ndarray, str]]]:
    """The worst triplets, the one that the distance took between the reference and the other."""
    rows = {}
    for place in np.argsort(-worst, kind="stable")[:_SHOWN].tolist():
        if worst[place] <= 0:
            break
        second = int(leaning[place] > 0)
        reference, *both = (
            read_resized(data, config.size, index) for index in data.items[place].tolist()
        )
        chosen = data.judge[place] if second else 1 - data.judge[place]
        rows[f"{label}, {place + 1}"] = [
            (reference, "reference"),
            (both[second], f"p{second}, nearer to the distance; {_said(data, chosen)}"),
            (both[1 - second], f"p{1 - second}, farther; {_said(data, 1 - chosen)}"),
        ]
    return rows


def _said(data: Judgements, fraction: float) -> str:
    if data.human:
        return f"{fraction:.0%} of people"
    return "distorted less" if fraction > 0.5 else "distorted more"


def score_figure(scores: Scores, test: Test, *, human: bool) -> Figure:
    """Scores over all, best on top, with their intervals, what people score, and chance."""
    found = scores.scores[scores.parts[-1]]
    order = scores.ranked[::-1]
    figure = Figure(figsize=(9, 1.2 + 0.28 * len(order)), layout="constrained")
    axes = figure.subplots()
    mean = found.mean[order]
    spread = np.maximum([mean - found.low[order], found.high[order] - mean], 0)
    names = [scores.names[i] for i in order]
    # Points, not bars: an axis of scores begins near chance, and a bar's length would mislead.
    axes.errorbar(mean, names, xerr=spread, fmt="o", color="#2f6f94", ecolor="#7aa6c2", capsize=3)
    axes.grid(axis="y", color="#eee")
    axes.set_axisbelow(True)
    axes.margins(y=1 / (len(names) + 1))
    if scores.ceiling:
        people = scores.ceiling[scores.parts[-1]]
        axes.axvline(people, color="#c0392b", label=f"people {people:.3f}")
    if test == "2afc":
        axes.axvline(0.5, color="#888", linestyle=":", label="chance")
        axes.legend(loc="lower right", fontsize=8)
        axes.set_xlim(min(0.45, float(found.low.min()) - 0.02), 1.0)
    agreement = "agreement with people" if human else "agreement with how they were made"
    axes.set_xlabel(agreement if test == "2afc" else "mean average precision")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
