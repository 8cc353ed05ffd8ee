"""What a run of `perceptual-jax train-metric` leaves: the distance, and a page about it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.common.figures import panels
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder
from experiments.common.triplets import STAND_IN_NOTE
from experiments.train_metric.config import Config
from perceptual_jax._typing import Params
from perceptual_jax.distances.learned import Learned, write_learned
from perceptual_jax.statistics import Interval

__all__ = ["Outcome", "write"]


class Outcome(NamedTuple):
    """What training did.

    Attributes:
      heads: the weights of all layers' channels, [c].
      trunk: the trunk's params, where its network was trained; else None.
      untrained: the score of what training started from, with its interval.
      trained: the learned distance's score.
      gain: the difference, of the same triplets.
      ceiling: what people score; None where nobody was asked.
      images: how many images the scored triplets have.
      known_images: and how many of them were learned from, in other triplets.
      best_epoch: whose variables were kept; 0 is before the first.
      epochs: of training, with the scores on what is held out.
    """

    heads: np.ndarray
    trunk: Params | None
    untrained: Interval
    trained: Interval
    gain: Interval
    ceiling: float | None
    images: int
    known_images: int
    best_epoch: int
    epochs: list[dict[str, Any]]

    @property
    def known(self) -> str:
        """Says what the score is of."""
        if not self.known_images:
            return f"None of the {self.images} images scored was learned from."
        return (
            f"{self.known_images} of the {self.images} images scored were learned from, in other "
            "triplets: the score is not that of new images."
        )

    @property
    def kept(self) -> str:
        """Says what of training was kept."""
        if self.best_epoch:
            return f"What was kept is that of epoch {self.best_epoch} of {len(self.epochs)}."
        return (
            f"None of the {len(self.epochs)} epochs scored more on what was held out than what "
            "training started from, which was kept: more data, more --patience, or another "
            "--learning-rate may help."
        )


_LEARNED = {
    "lin": "Weights of the channels of {trunk}, at least 0, trained",
    "tune": "The network of {trunk} and weights of its channels, at least 0, both trained",
    "scratch": "The network of {trunk}, from random weights, and weights of its channels, trained",
}


def write(
    config: Config,
    folder: RunFolder,
    trunk: str,
    layers: dict[str, int],
    outcome: Outcome,
    examples: dict[str, list[tuple[np.ndarray, str]]],
    *,
    human: bool,
) -> None:
    """Writes the distance, results.json and the report, and says where they are.

    Args:
      config: the options.
      folder: the run's.
      trunk: the trunk's canonical spec.
      layers: `{layer: channels}` of the trunk.
      outcome: what training did.
      examples: rows of pictures, triplets of which training gained most.
      human: whether people judged what was scored.
    """
    ends = np.cumsum([0, *layers.values()])
    heads = {
        layer: outcome.heads[start:stop]
        for layer, start, stop in zip(layers, ends[:-1], ends[1:], strict=True)
    }
    file = folder.path / "metric.safetensors"
    about = {"data": config.data, "mode": config.mode, "seed": str(config.seed)}
    write_learned(file, Learned(trunk, heads, outcome.trunk, about | {"human": str(human)}))
    scores = {
        name: {key: float(value) for key, value in getattr(outcome, name)._asdict().items()}
        for name in ("untrained", "trained", "gain")
    }
    about_scores = {
        "people": outcome.ceiling,
        "human": human,
        "images": outcome.images,
        "known_images": outcome.known_images,
        "best_epoch": outcome.best_epoch,
    }
    folder.write_json("results.json", scores | about_scores)
    report = page(config, str(file), trunk, heads, outcome, examples, human=human)
    report.write(folder.path / "report.html")
    console.print(
        f"untrained {outcome.untrained.mean:.4f}, trained {outcome.trained.mean:.4f} "
        f"({outcome.trained.low:.4f} to {outcome.trained.high:.4f}), gain {outcome.gain.mean:+.4f} "
        f"({outcome.gain.low:+.4f} to {outcome.gain.high:+.4f})"
        + ("" if outcome.ceiling is None else f"; people {outcome.ceiling:.4f}")
    )
    console.print(f"{outcome.kept} {outcome.known}")
    if not human:
        console.print(STAND_IN_NOTE)
    console.print(f"distance: {file}")
    console.print(f"report: {folder.path / 'report.html'}")


def page(
    config: Config,
    file: str,
    trunk: str,
    heads: dict[str, np.ndarray],
    outcome: Outcome,
    examples: dict[str, list[tuple[np.ndarray, str]]],
    *,
    human: bool,
) -> Report:
    """The report's page."""
    report = Report(
        "A distance learned from what people said",
        f"{_LEARNED[config.mode].format(trunk=trunk)} to choose between two images as people do. "
        "The score is the fraction of people who agree; intervals hold 95% of the scores on data "
        f"sets drawn from the same triplets with replacement. {outcome.known}",
    )
    if not human:
        report.text(STAND_IN_NOTE)
    rows = [
        [name, *(f"{value:.4f}" for value in getattr(outcome, name))]
        for name in ("untrained", "trained", "gain")
    ]
    if outcome.ceiling is not None:
        rows.append(["people", f"{outcome.ceiling:.4f}", "", ""])
    report.table(["", "score", "low", "high"], rows)
    if examples:
        report.heading("What changed")
        report.text(
            "Triplets where the untrained distance took the image on the right for the nearer one, "
            "and the trained distance takes the one in the middle"
            + (", as most people do." if human else ", which it is.")
        )
        report.pictures(examples)
    report.heading("Training")
    report.text(outcome.kept)
    report.figure(curves(outcome), "Loss and scores against epochs")
    report.figure(weights_drawn(heads), "The learned weights of each layer, sorted")
    report.heading("How to use it")
    report.code(f'distance = pj.make("{file}")')
    report.how_it_was_made(config)
    return report


def curves(outcome: Outcome) -> Figure:
    """The loss, and the scores on what is learned from and on what is held out."""
    figure, (left, right) = panels(2, size=(10, 3.2))
    epochs = [line["epoch"] for line in outcome.epochs]
    left.plot(epochs, [line["loss"] for line in outcome.epochs])
    left.set(xlabel="epoch", ylabel="loss")
    for name, label in (("learned_from", "learned from"), ("held_out", "held out")):
        right.plot(epochs, [line[name] for line in outcome.epochs], label=label)
    right.set(xlabel="epoch", ylabel="agreement")
    if outcome.best_epoch:
        right.axvline(outcome.best_epoch, color="#888", linestyle=":", label="kept")
    right.legend()
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def weights_drawn(heads: dict[str, np.ndarray]) -> Figure:
    """Every layer's weights, from the largest to the smallest."""
    figure, found = panels(len(heads), size=(10, 2.6), sharey=True)
    for axes, (layer, head) in zip(found, heads.items(), strict=True):
        axes.plot(np.sort(head)[::-1])
        axes.set_title(layer, fontsize=9)
    return figure
