"""Checkpoints of a run's state: the one module that calls Orbax."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TypeVar

import jax

from experiments.common import hosts
from perceptual_jax.errors import InputError

__all__ = ["best_step", "latest_step", "restore", "save"]

T = TypeVar("T")

_LOSS = "loss"


def save(
    folder: Path, step: int, state: object, *, keep: int = 1, loss: float | None = None
) -> None:
    """Saves a pytree of arrays as `folder/<step>` and then removes other steps.

    Orbax writes beside it and moves it into place: a step that is there is whole. With losses, the
    step with the least of them stays too. It is the loss that decides because every training has
    one at every step that is saved; what images held out score, GLO must seek codes for.

    Args:
      folder: of the training, and of it alone.
      step: how many steps were taken.
      state: what to save.
      keep: how many of the last steps to keep, this one among them; those after it, which a run
        that was resumed from before them has forgotten, are removed.
      loss: of this step.
    """
    from orbax.checkpoint.experimental import v1 as orbax

    logging.getLogger("absl").setLevel(logging.WARNING)
    metadata = None if loss is None else {_LOSS: loss}
    path = (folder / str(step)).absolute()
    orbax.save(path, state, overwrite=True, custom_metadata=metadata)
    if hosts.leads():
        _forget(folder, step, keep, best=loss is not None)
    hosts.wait()


def _forget(folder: Path, step: int, keep: int, *, best: bool) -> None:
    """Removes all steps but the last few up to this one, and the best of those if asked to."""
    known = [each for each in _steps(folder) if each <= step]
    kept = {*known[-keep:], _best(folder, known) if best else None}
    for other in _steps(folder):
        if other not in kept:
            shutil.rmtree(folder / str(other), ignore_errors=True)


def latest_step(folder: Path) -> int | None:
    """The last step saved, or None."""
    return max(_steps(folder), default=None)


def best_step(folder: Path) -> int | None:
    """The saved step with the least loss, the last of them; None where none was saved with one."""
    return _best(folder, _steps(folder))


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


def _best(folder: Path, steps: list[int]) -> int | None:
    losses = {step: _loss(folder / str(step)) for step in steps}
    known = [(loss, -step) for step, loss in losses.items() if loss is not None]
    return -min(known)[1] if known else None


def _loss(path: Path) -> float | None:
    """What a step was saved with."""
    from orbax.checkpoint.experimental import v1 as orbax

    try:
        return (orbax.metadata(path.absolute()).custom_metadata or {}).get(_LOSS)
    except Exception:  # As in `restore`: of a damaged one, nothing is known.
        return None
