"""What clustering found, and how well it agrees with labels."""

from __future__ import annotations

import dataclasses

import numpy as np

from experiments.cluster.config import Config, matching
from experiments.cluster.scores import Scores, scores
from experiments.common.data import Labelled

__all__ = ["Clusters", "scored"]


@dataclasses.dataclass(frozen=True)
class Clusters:
    """What one method made of the images under one distance.

    Attributes:
      labels: the cluster of each image, of every repeat, [r, n].
      inertia: the mean distance to what stands for the cluster, [r].
      best: the repeat with the least inertia, which is shown.
      cost: of the best, how far each image is from what stands for its cluster, [n].
      pictures: of the best, an image for each of the clusters shown, by cluster.
      scores: of every repeat; none where there are no labels.
    """

    labels: np.ndarray
    inertia: np.ndarray
    best: int
    cost: np.ndarray
    pictures: dict[int, np.ndarray]
    scores: list[Scores]

    def largest(self, count: int) -> list[int]:
        """The largest clusters of the best repeat that have any images."""
        sizes = np.bincount(self.labels[self.best])
        return [int(c) for c in np.argsort(-sizes, kind="stable")[:count] if sizes[c]]


def scored(config: Config, data: Labelled, labels: np.ndarray) -> list[Scores]:
    """The scores of every row of clusters [r, n]; none where there are no labels."""
    if len(data.names) < 2:
        return []
    return [scores(data.labels, row, matching(config, data)) for row in labels]
