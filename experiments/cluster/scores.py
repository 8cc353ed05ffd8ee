"""How well clusters agree with labels."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from perceptual_jax.errors import InputError

__all__ = ["Match", "Scores", "matched", "scores"]

Match = Literal["one-to-one", "majority"]
"""How clusters get labels: each its own, so that as many as possible are right (the Hungarian
method); or each the label that most of it have."""


class Scores(NamedTuple):
    """Numbers of at most 1, larger is better.

    Attributes:
      f1: the mean of the labels' F1, weighted by how many have the label.
      precision: likewise.
      recall: likewise; the fraction of images that got their label.
      nmi: normalised mutual information, by the arithmetic mean of the entropies.
      ari: the adjusted Rand index, 0 by chance.
    """

    f1: float
    precision: float
    recall: float
    nmi: float
    ari: float


def matched(labels: np.ndarray, clusters: np.ndarray, match: Match) -> np.ndarray:
    """What label each image gets from its cluster, [n]; -1 where its cluster got none.

    Args:
      labels: [n], from 0.
      clusters: [n], from 0.
      match: how.
    """
    table = np.zeros((clusters.max() + 1, labels.max() + 1), int)
    np.add.at(table, (clusters, labels), 1)
    if match == "majority":
        return table.argmax(axis=1)[clusters]
    label_of = np.full(len(table), -1)
    rows, columns = linear_sum_assignment(-table)
    label_of[rows] = columns
    return label_of[clusters]


def scores(labels: np.ndarray, clusters: np.ndarray, match: Match) -> Scores:
    """Scores of clusters [n] against labels [n].

    Raises:
      InputError: if scikit-learn is not installed.
    """
    try:
        from sklearn import metrics
    except ModuleNotFoundError:
        raise InputError(
            "the scores are scikit-learn's: pip install 'perceptual-jax[experiments]'"
        ) from None
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels,
        matched(labels, clusters, match),
        labels=np.unique(labels),
        average="weighted",
        zero_division=0,
    )
    return Scores(
        float(f1),
        float(precision),
        float(recall),
        float(metrics.normalized_mutual_info_score(labels, clusters)),
        float(metrics.adjusted_rand_score(labels, clusters)),
    )
