"""Distances in groups that share the pass of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

import perceptual_jax as pj
from perceptual_jax._typing import Params
from perceptual_jax.backbones import BACKBONES

__all__ = ["grouped"]


def grouped(distances: Sequence[pj.Distance], seed: int) -> tuple[Params, list[list[pj.Distance]]]:
    """Groups of distances to trace together, and the params of all.

    Those on one network share its pass when they are one program. One program of all would hold
    what all of them work with at once: 16 GiB for the whole catalogue at 768 x 512 pixels.

    Args:
      distances: of any kind.
      seed: of random draws.
    """
    params: dict[str, Any] = {}
    groups: dict[frozenset[str], list[pj.Distance]] = {}
    for distance in distances:
        own = distance.init(jax.random.key(seed))
        params |= own
        networks = frozenset(own.keys() & BACKBONES.keys())
        groups.setdefault(networks or frozenset([distance.name]), []).append(distance)
    return params, list(groups.values())
