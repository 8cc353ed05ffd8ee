"""What a run of `perceptual-jax two-afc` leaves: tables of scores, a figure, and a page."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.table import Column, Table

from experiments.common.figures import panels
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder
from experiments.common.triplets import STAND_IN_NOTE, Judgements, Test, read_resized
from experiments.two_afc.config import Config
from experiments.two_afc.scores import Scores
from perceptual_jax._files import write_whole
from perceptual_jax.statistics import Interval

__all__ = ["score_figure", "write"]

_ALONE = "An interval of one judgement has no width: it says nothing of what others would be."


def write(
    config: Config, folder: RunFolder, data: Judgements, found: np.ndarray, scores: Scores
) -> None:
    """Writes the scores as tables, as a figure, and as a page.

    Args:
      config: the run's options.
      folder: of the run.
      data: what was judged.
      found: distances [m, t, 1 or 2], of every triplet or pair.
      scores: of these.
    """
    header, rows = _table_of(scores, digits=5)
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    write_whole(folder.path / "results.csv", text.getvalue().encode())
    lines = [" | ".join(row) for row in (header, ["---"] + ["---:"] * (len(header) - 1), *rows)]
    write_whole(folder.path / "results.md", "".join(f"| {x} |\n" for x in lines).encode())
    folder.write_json("results.json", _as_json(config, data, scores))
    figure = score_figure(scores, config.test, human=data.human)
    figure.savefig(folder.path / "scores.png", dpi=110)
    resized = _resized(config, data)
    _page(config, data, found, scores, figure, resized).write(folder.path / "report.html")
    table = Table(Column("distance", overflow="fold"), "score", "95% interval", box=None)
    for row in _table_of(scores, digits=3)[1]:
        table.add_row(row[0], row[-3], f"{row[-2]} to {row[-1]}" if row[-1] else "")
    console.print(table)
    if len(data.judge) == 1:
        console.print(_ALONE)
    if not data.human:
        console.print(STAND_IN_NOTE)
    if resized:
        console.print(resized)
    console.print(f"report: {folder.path / 'report.html'}")


def _table_of(scores: Scores, digits: int) -> tuple[list[str], list[list[str]]]:
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
    parts = scores.parts if len(scores.parts) > 1 else ("score",)
    return ["distance", *parts, "low", "high"], rows


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


def _page(
    config: Config,
    data: Judgements,
    found: np.ndarray,
    scores: Scores,
    figure: Figure,
    resized: str,
) -> Report:
    ranked = scores.ranked
    report = Report("Which distance sees like people do?", _ABOUT[config.test])
    report.text(f"{len(data.judge)} judgements of {len(data.names)} images. {resized}".strip())
    if len(data.judge) == 1:
        report.text(_ALONE)
    if not data.human:
        report.text(STAND_IN_NOTE)
    report.figure(figure, "Every distance's score, with its interval")
    report.table(*_table_of(scores, digits=3))
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
        f"Every image was resized to {config.size}x{config.size} pixels with Pillow's bicubic "
        "filter.",
    )
    return report


def _resized(config: Config, data: Judgements) -> str:
    """Says that images are compared at another size than theirs; "" where the first is not."""
    height, width = data.read(0).shape[:2]
    if (height, width) == (config.size, config.size):
        return ""
    side = f"{config.size}x{config.size}"
    return f"Images are resized to {side} pixels (--size); the first was {width}x{height}."


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
        name = Path(data.names[data.items[place, 0]]).name if data.human else "reference"
        rows[f"{label}, triplet {place + 1}"] = [
            (reference, name),
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
    figure, (axes,) = panels(size=(9, 1.2 + 0.28 * len(order)))
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
    return figure
