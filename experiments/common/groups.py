"""The distances that a command was asked for, and which of them share the pass of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import perceptual_jax as pj
from perceptual_jax._typing import Params
from perceptual_jax.backbones import BACKBONES
from perceptual_jax.errors import InputError

__all__ = ["grouped", "made"]


def made(specs: Sequence[str], size: int) -> list[pj.Distance]:
    """The distances of `--distances`, for square images of that side; nothing is computed.

    Raises:
      InputError: if there is none or one comes twice; if one is unknown, lacks its weights or
        cannot take such images.
    """
    distances = [pj.make(spec) for spec in specs]
    names = [distance.name for distance in distances]
    if not names or len(set(names)) < len(names):
        raise InputError(f"--distances must name one or more, each once; got {', '.join(names)}")
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    for distance in distances:
        jax.eval_shape(distance.embed, jax.eval_shape(distance.init, jax.random.key(0)), image)
    return distances


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
