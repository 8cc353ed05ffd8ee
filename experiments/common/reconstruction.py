"""What commands that train generators share: how a run goes, what it is judged by, and its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import perceptual_jax as pj
from experiments.common import options
from experiments.common.data import Pictures, learned_and_held_out
from experiments.common.loop import interruptible
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name, start
from experiments.common.training import check_batches
from experiments.compare import scorer
from perceptual_jax.statistics import gradient_energy

__all__ = [
    "Judge",
    "Outcome",
    "floats",
    "in_batches",
    "interpolated",
    "normal_samples",
    "under_each",
]

SHOWN, SAMPLES, INTERPOLATED = 6, 8, 8
"""How many reconstructions, samples, and images between two codes a report shows."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What training under one distance came to; images are [n, h, w, 3] in [0, 1].

    Attributes:
      reconstructions: of all held-out images.
      learned: of the first images learned from.
      samples: of codes drawn from a normal distribution with the learned codes' mean and
        covariance.
      interpolations: from one held-out image's code to another's.
      measures: `{measure: its mean over the held-out images}`.
      metrics: the lines logged on the way.
    """

    reconstructions: np.ndarray
    learned: np.ndarray
    samples: np.ndarray
    interpolations: np.ndarray
    measures: dict[str, float]
    metrics: list[dict[str, Any]]


# --- Codes ---------------------------------------------------------------------------------


def in_batches(function: Callable[[np.ndarray], Any], array: np.ndarray, size: int) -> Any:
    """What a function gives for [n, ...], leaves [n, ...], some rows at a time: compiled once."""
    parts, kept = [], []
    for first in range(0, len(array), size):
        part = array[first : first + size]
        filled = np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)])
        parts.append(jax.tree.map(np.asarray, function(filled)))
        kept.append(len(part))
    return jax.tree.map(
        lambda *leaves: np.concatenate([x[:n] for x, n in zip(leaves, kept, strict=True)]), *parts
    )


def normal_samples(codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws from the normal distribution with the codes' mean and covariance.

    A sum of the codes' deviations from their mean, weighed by normal numbers, has their covariance
    also where there are fewer codes than numbers in one.

    Args:
      codes: [n, c], at least two.
      count: how many to draw.
      seed: of the draws.

    Returns:
      [count, c].
    """
    mean = codes.mean(axis=0)
    weights = np.random.default_rng(seed).standard_normal((count, len(codes)))
    drawn = mean + weights @ (codes - mean) / np.sqrt(len(codes) - 1)
    return drawn.astype(codes.dtype)


def interpolated(first: np.ndarray, last: np.ndarray, *, unit_norm: bool = False) -> np.ndarray:
    """Codes on the straight line between two [c], both ends included: [INTERPOLATED, c].

    Args:
      first: the code at one end.
      last: and at the other.
      unit_norm: whether they are scaled to length 1.
    """
    part = np.linspace(0, 1, INTERPOLATED, dtype=first.dtype)[:, None]
    codes = (1 - part) * first[None] + part * last[None]
    return codes / np.linalg.norm(codes, axis=1, keepdims=True) if unit_norm else codes


# --- Judging -------------------------------------------------------------------------------


Judge = Callable[[np.ndarray, np.ndarray], dict[str, float]]
"""`(made, wanted) -> {measure: mean, ..., "sharpness": gradient energy over that of what was
wanted}`, of images [n, h, w, 3] in [0, 1]."""


def judge_by(measures: Sequence[pj.Distance], *, batch: int, seed: int) -> Judge:
    """Means over images of distances, and the sharpness relative to what was wanted.

    Args:
      measures: the distances.
      batch: how many images to compare at a time.
      seed: of the distances' random draws.
    """
    _, score = scorer(measures, seed)

    def judge(made: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
        values = in_batches(
            lambda pairs: score(pairs[:, 0], pairs[:, 1]), np.stack([made, wanted], axis=1), batch
        )
        energy, wanted_energy = (float(gradient_energy(x).mean()) for x in (made, wanted))
        means = {name: float(numbers.mean(dtype=np.float64)) for name, numbers in values.items()}
        return {**means, "sharpness": energy / max(wanted_energy, 1e-30)}

    return judge


# --- A command's run -----------------------------------------------------------------------


def floats(images: np.ndarray) -> np.ndarray:
    """uint8 images as float32 in [0, 1]."""
    return images.astype(np.float32) / 255


def under_each(
    command: str,
    config: Any,
    learn: Callable[[pj.Distance, Pictures, Pictures, Judge, RunFolder, Callable], Outcome],
    introduced: Callable[[int], Report],
) -> dict[str, Outcome]:
    """Learns under every distance, and writes the run's folder.

    Args:
      command: its name.
      config: its options, resumed and checked.
      learn: `(distance, pictures to learn from, pictures held out, judge, folder, asked_to_stop)
        -> Outcome`.
      introduced: `how many pictures were learned from -> ` a report's first lines.

    Returns:
      `{distance: Outcome}`.

    Raises:
      InputError: for data and distances that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    distances = options.made(config.distances, config.size)
    measures = options.made(config.measures, config.size, "--measures")
    learned, held = learned_and_held_out(
        config.data,
        size=config.size,
        count=config.images,
        held_out=config.held_out,
        seed=config.seed,
    )
    check_batches(len(learned.images), config.batch, config.microbatches)
    folder = start(command, config, distances=[*distances, *measures])
    judge = judge_by(measures, batch=config.batch, seed=config.seed)
    with interruptible() as asked_to_stop:
        outcomes = {
            distance.name: learn(distance, learned, held, judge, folder, asked_to_stop)
            for distance in distances
        }
    _write(config, folder, introduced(len(learned.images)), learned, held, outcomes)
    return outcomes


def _write(
    config: Any,
    folder: RunFolder,
    report: Report,
    learned: Pictures,
    held: Pictures,
    outcomes: Mapping[str, Outcome],
) -> None:
    """Pictures, results.json and the report."""
    originals, wanted = floats(learned.images[:SHOWN]), floats(held.images)
    _write_pictures(folder, wanted, outcomes)
    results = {name: outcome.measures for name, outcome in outcomes.items()}
    folder.write_json("results.json", {"held_out": results})
    _add_outcomes(report, originals, wanted, outcomes)
    report.heading("On the way")
    report.figure(_curves(outcomes), "Loss and sharpness of every distance against epochs")
    report.how_it_was_made(
        config,
        "The images are views of five photographs, moved and bent, and every other one "
        "mirrored: held-out views are new views of photographs that were learned from."
        if config.data == "embedded"
        else "",
    )
    report.write(folder.path / "report.html")
    for name, values in results.items():
        table = ", ".join(f"{measure} {value:.4g}" for measure, value in values.items())
        console.print(f"{name}: held-out {table}")
    console.print(f"report: {folder.path / 'report.html'}")


# --- Showing -------------------------------------------------------------------------------


def _write_pictures(folder: RunFolder, wanted: np.ndarray, outcomes: Mapping[str, Outcome]) -> None:
    """The grids of the report as files: reconstructions, samples and interpolations."""
    rows = [wanted[:SHOWN], *(outcome.reconstructions[:SHOWN] for outcome in outcomes.values())]
    folder.write_image("reconstructions.png", pj.images.grid([[*row] for row in rows]))
    for kind in ("samples", "interpolations"):
        rows = [getattr(outcome, kind) for outcome in outcomes.values()]
        folder.write_image(f"{kind}.png", pj.images.grid([[*row] for row in rows]))
    for name, outcome in outcomes.items():
        for i, image in enumerate(outcome.reconstructions[:SHOWN]):
            folder.write_image(f"{file_name(name)}-{i + 1}.png", image)


def _add_outcomes(
    report: Report,
    learned: np.ndarray,
    wanted: np.ndarray,
    outcomes: Mapping[str, Outcome],
) -> None:
    """The pictures of all losses, one below the other, and the table of their measures."""

    def numbered(images: np.ndarray) -> list[tuple[np.ndarray, str]]:
        return [(image, str(i + 1)) for i, image in enumerate(images)]

    def rows(originals: np.ndarray, field: str) -> dict[str, list[tuple[np.ndarray, str]]]:
        made = {name: getattr(outcome, field) for name, outcome in outcomes.items()}
        found = {"original": originals, **made}
        return {name: numbered(images[:SHOWN]) for name, images in found.items()}

    report.heading("Reconstructions of images held out")
    report.pictures(rows(wanted, "reconstructions"))
    measures = list(next(iter(outcomes.values())).measures)
    report.table(
        ["trained under", *measures],
        [
            [name, *(f"{outcome.measures[m]:.4g}" for m in measures)]
            for name, outcome in outcomes.items()
        ],
    )
    report.text(
        f"Means over the {len(wanted)} images held out. Of distances, smaller is nearer; the "
        "sharpness is gradient energy relative to the originals, and 1 is as sharp as they are "
        "(noise raises it too)."
    )
    for heading, field, text in (
        (
            "Interpolations",
            "interpolations",
            "From one held-out image's code to another's, in equal steps.",
        ),
        (
            "Samples",
            "samples",
            "Codes drawn from the normal distribution that has the mean and the covariance of the "
            "learned images' codes.",
        ),
    ):
        report.heading(heading)
        report.text(text)
        report.pictures(
            {name: numbered(getattr(outcome, field)) for name, outcome in outcomes.items()}
        )
    report.heading("Reconstructions of images learned from")
    report.pictures(rows(learned, "learned"))


def _curves(outcomes: Mapping[str, Outcome]) -> Figure:
    """The loss of every distance, relative to its first, and the sharpness, against epochs."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, outcome in outcomes.items():
        epochs = [line["epoch"] for line in outcome.metrics]
        losses = np.array([line["loss"] for line in outcome.metrics])
        left.plot(epochs, losses / max(losses[0], 1e-30), label=name)
        right.plot(epochs, [line["sharpness"] for line in outcome.metrics], label=name)
    left.set(xlabel="epoch", ylabel="loss / first logged loss")
    right.set(xlabel="epoch", ylabel="sharpness relative to originals")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
