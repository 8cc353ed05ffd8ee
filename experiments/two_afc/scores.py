"""How often distances agree with people, over all judgements and over parts of them."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np

from experiments.common.triplets import Judgements
from experiments.two_afc.config import Config
from perceptual_jax.statistics import (
    Interval,
    bootstrap_means,
    human_ceiling,
    interval,
    jnd_average_precision,
    two_afc_agreement,
)

__all__ = ["Scores", "score"]


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
