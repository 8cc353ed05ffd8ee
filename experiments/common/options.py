"""Options of commands, checked before anything is computed or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import perceptual_jax as pj
from perceptual_jax.errors import InputError

__all__ = ["check_bounds", "made"]


def check_bounds(config: Any, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Raises an `InputError` for an option outside of its bounds: `{field: (least, most)}`."""
    for field, (least, most) in bounds.items():
        value = getattr(config, field)
        if not least <= value <= most:
            flag = f"--{field.replace('_', '-')}"
            raise InputError(f"{flag} must be at least {least} and at most {most}; got {value}")


def made(specs: Sequence[str], size: int, flag: str = "--distances") -> list[pj.Distance]:
    """The distances that an option names, for square images of that side; nothing is computed.

    Raises:
      InputError: if there is none or one comes twice; if one is unknown, lacks its weights or
        cannot take such images.
    """
    distances = [pj.make(spec) for spec in specs]
    names = [distance.name for distance in distances]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{flag} must name one or more, each once; got {', '.join(names)}")
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    for distance in distances:
        params = jax.eval_shape(distance.init, jax.random.key(0))
        # A network is traced once for both images: tracing is what a command begins with.
        embedded = jax.eval_shape(distance.embed, params, image)
        jax.eval_shape(distance.compare, params, embedded, embedded)
    return distances
