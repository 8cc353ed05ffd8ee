"""Checkpoints of a run's state: the one module that calls Orbax."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TypeVar

import jax

from perceptual_jax.errors import InputError

__all__ = ["latest_step", "restore", "save"]

T = TypeVar("T")


def save(folder: Path, step: int, state: object) -> None:
    """Saves a pytree of arrays as `folder/<step>` and then removes older steps.

    Orbax writes beside it and moves it into place: a step that is there is whole.
    """
    from orbax.checkpoint.experimental import v1 as orbax

    logging.getLogger("absl").setLevel(logging.WARNING)
    orbax.save((folder / str(step)).absolute(), state, overwrite=True)
    for older in _steps(folder):
        if older != step:
            shutil.rmtree(folder / str(older), ignore_errors=True)


def latest_step(folder: Path) -> int | None:
    """The last step saved, or None."""
    return max(_steps(folder), default=None)


def restore(folder: Path, step: int, like: T) -> T:
    """Reads `folder/<step>` into the structure, shapes, dtypes and shardings of `like`.

    Raises:
      InputError: if the checkpoint cannot be read or is of another structure.
    """
    from orbax.checkpoint.experimental import v1 as orbax

    logging.getLogger("absl").setLevel(logging.WARNING)
    path = folder / str(step)
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
    )
    try:
        return orbax.load(path.absolute(), abstract)
    except Exception as error:  # Orbax raises errors of every kind on damaged files.
        reason = str(error).split("\n")[0][:200]
        raise InputError(
            f"the checkpoint {path} cannot be read ({reason}): delete it to start over"
        ) from error


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
