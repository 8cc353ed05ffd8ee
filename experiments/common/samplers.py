"""How codes are drawn once they are learned, what lies between two of them, and images of both.

A sampler maps noise, N(0, 1), to codes: linearly, by the normal distribution with the codes' mean
and covariance, or by a network that was fitted to them (`mappers`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.common.mappers import NOISE, Mapped, fit_gmmn, fit_imle
from experiments.common.progress import Advance

__all__ = ["Drawn", "Kind", "Sampler", "arc", "drawn", "fitted", "line", "noise", "normal", "unit"]

Kind = Literal["normal", "imle", "gmmn"]
"""The normal distribution with the codes' mean and covariance; networks fitted by implicit maximum
likelihood estimation, or as generative moment matching networks."""


class Sampler(NamedTuple):
    """A way to draw codes.

    Attributes:
      size: how many normal numbers it makes a code of.
      codes: `noise [n, size] -> codes [n, c]`.
    """

    size: int
    codes: Mapped


def fitted(
    kind: Kind,
    codes: np.ndarray,
    *,
    seed: int,
    steps: int = 2000,
    unit_norm: bool = False,
    advance: Advance = lambda count=1: None,
) -> Sampler:
    """A sampler of codes that lie as those given do.

    Args:
      kind: which.
      codes: [n, c], at least two.
      seed: of the random draws.
      steps: of Adam that fit a network, how many.
      unit_norm: whether what is drawn is scaled to length 1.
      advance: is told of the steps.
    """
    if kind == "normal":
        sampler = normal(codes)
    else:
        fit = {"imle": fit_imle, "gmmn": fit_gmmn}[kind]
        sampler = Sampler(NOISE, fit(codes, steps, seed, advance))
    return Sampler(sampler.size, lambda noise: unit(sampler.codes(noise))) if unit_norm else sampler


def normal(codes: np.ndarray) -> Sampler:
    """The normal distribution with the mean and the covariance of codes [n, c], at least two.

    The covariance may lack rank: it has that of n - 1 codes where these have more numbers.
    """
    mean = codes.mean(axis=0, keepdims=True)
    centred = (codes - mean) / np.sqrt(len(codes) - 1)
    root = centred if len(codes) <= codes.shape[1] else np.asarray(np.linalg.qr(centred, "r"))
    return Sampler(len(root), lambda noise: (mean + noise @ root).astype(codes.dtype))


def noise(sampler: Sampler, count: int, seed: int) -> np.ndarray:
    """What a sampler makes codes of: N(0, 1), [count, size]."""
    return np.random.default_rng(seed).standard_normal((count, sampler.size))


def unit(codes: np.ndarray) -> np.ndarray:
    """Codes [n, c], scaled to length 1."""
    return codes / np.linalg.norm(codes, axis=1, keepdims=True)


# --- Between two ---------------------------------------------------------------------------


def line(first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """Codes in equal steps on the straight line between two [c], both included: [count, c]."""
    part = np.linspace(0, 1, count, dtype=first.dtype)[:, None]
    return (1 - part) * first[None] + part * last[None]


def arc(first: np.ndarray, last: np.ndarray, count: int) -> np.ndarray:
    """Noise between two draws [k], both included: [count, k].

    Weighed by the cosine and the sine of an angle that turns from 0 to 90 degrees: each is then
    N(0, 1) if both are, while a straight line leads through noise as small as is never drawn.
    """
    angle = np.linspace(0, np.pi / 2, count)[:, None]
    return np.cos(angle) * first[None] + np.sin(angle) * last[None]


# --- Images --------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """Images of codes that were drawn.

    Attributes:
      samples: `{sampler: of its draws}`.
      interpolations: `{sampler: of noise between its first two draws}`.
    """

    samples: dict[str, np.ndarray]
    interpolations: dict[str, np.ndarray]


def drawn(
    kinds: Sequence[Kind],
    codes: np.ndarray,
    images_of: Callable[[np.ndarray], np.ndarray],
    *,
    count: int,
    between: int,
    seed: int,
    **options: Any,
) -> Drawn:
    """Fits samplers to codes, and draws.

    Args:
      kinds: of the samplers.
      codes: those learned, [n, c].
      images_of: `codes [m, c] -> images`.
      count: how many samples each draws, at least two.
      between: how many images of an interpolation.
      seed: of the random draws.
      options: see `fitted`.
    """
    samples: dict[str, np.ndarray] = {}
    interpolations: dict[str, np.ndarray] = {}
    for kind in kinds:
        sampler = fitted(kind, codes, seed=seed, **options)
        draws = noise(sampler, count, seed)
        samples[kind] = images_of(sampler.codes(draws))
        interpolations[kind] = images_of(sampler.codes(arc(draws[0], draws[1], between)))
    return Drawn(samples, interpolations)
