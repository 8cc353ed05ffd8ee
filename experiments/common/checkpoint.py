"""Checkpoints of a run's state: the one module that calls Orbax."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import zlib
from pathlib import Path
from typing import Any, TypeVar

import jax

from experiments.common import hosts
from experiments.common.progress import console
from perceptual_jax._files import write_whole
from perceptual_jax.errors import InputError

__all__ = ["best_step", "latest_step", "restore", "restore_latest", "save"]

T = TypeVar("T")

_LOSS = "loss"
_SUMS = "crc32.json"
"""In the folder of a step: the checksums of the other files in it."""


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

    Raises:
      OSError: if the disk is full or the folder may not be written to; other steps are kept.
    """
    path = (folder / str(step)).absolute()
    _write(path, state, {} if loss is None else {_LOSS: loss})
    if hosts.leads():
        write_whole(path / _SUMS, json.dumps(_sums(path)).encode())
        _forget(folder, step, keep, best=loss is not None)
    hosts.wait()


def _forget(folder: Path, step: int, keep: int, *, best: bool) -> None:
    """Removes all steps but the last few up to this one, and the best of those if asked to."""
    known = [each for each in _steps(folder) if each <= step]
    kept = {*known[-keep:], _best(folder, known) if best else None}
    for other in _steps(folder):
        if other not in kept:
            shutil.rmtree(folder / str(other), ignore_errors=True)


def _write(path: Path, state: object, metadata: dict[str, Any]) -> None:
    from orbax.checkpoint.experimental import v1 as orbax

    logging.getLogger("absl").setLevel(logging.WARNING)
    # Before Orbax finds out: its threads then print what they died of, and leave what they began.
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < sum(leaf.nbytes for leaf in jax.tree.leaves(state)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    try:
        orbax.save(path, state, overwrite=True, custom_metadata=metadata)
    except Exception as error:
        for rest in path.parent.glob(f"{path.name}.*tmp*"):
            shutil.rmtree(rest, ignore_errors=True)
        # What writes arrays says what the system said, but not as an OSError.
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code), str(path)) from error
        raise


def latest_step(folder: Path) -> int | None:
    """The last step saved, or None."""
    return max(_steps(folder), default=None)


def best_step(folder: Path) -> int | None:
    """The saved step with the least loss, the last of them; None where none was saved with one."""
    return _best(folder, _steps(folder))


def restore_latest(folder: Path, like: T) -> tuple[int, T]:
    """The last step that can be read, and its state; 0 and `like` if nothing was saved.

    Where the last one is damaged and others are held, the one before it is taken, which is said.

    Args:
      folder: of the training.
      like: see `restore`.

    Raises:
      InputError: if none of those that are there can be read.
    """
    damaged = []
    for step in reversed(_steps(folder)):
        try:
            state = restore(folder, step, like)
        except InputError as error:
            damaged.append(error)
            continue
        for fault in damaged:
            console.print(f"{fault}; going on from step {step}, the one before")
        return step, state
    if damaged:
        raise InputError(
            f"{damaged[0]}; nor is there another that can: delete {folder} to start this training "
            "over (--keep 2 holds one more, where a command has it)"
        )
    return 0, like


def restore(folder: Path, step: int, like: T) -> T:
    """Reads `folder/<step>` into the structure, shapes, dtypes and shardings of `like`.

    Raises:
      InputError: if the checkpoint cannot be read, is of another structure, or holds other bytes
        than were saved.
    """
    from orbax.checkpoint.experimental import v1 as orbax

    logging.getLogger("absl").setLevel(logging.WARNING)
    path = (folder / str(step)).absolute()
    # Before Orbax finds out: every array that it was reading meanwhile then says so, at length.
    # One process looks, for all: they take the same checkpoint, and its files are read once more,
    # not once more for each.
    if fault := hosts.first_says(lambda: _fault(path)):
        raise InputError(f"the checkpoint {path} cannot be read ({fault})")
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like
    )
    try:
        return orbax.load(path, abstract)
    except Exception as error:  # Orbax raises errors of every kind on damaged files.
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"the checkpoint {path} cannot be read ({reason})") from error


def _sums(path: Path) -> dict[str, int]:
    """The checksum of every file of a step, by its path in there."""
    return {
        file.relative_to(path).as_posix(): _sum(file)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != _SUMS
    }


def _sum(file: Path) -> int:
    found = 0
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            found = zlib.crc32(chunk, found)
    return found


def _fault(path: Path) -> str:
    """What is not as it was saved; "" where nothing is, or no checksums were written yet."""
    try:
        if not (path / _SUMS).exists():
            return ""
        for name, checksum in json.loads((path / _SUMS).read_bytes()).items():
            if not (path / name).is_file():
                return f"{name} is missing"
            if _sum(path / name) != checksum:
                return f"{name} holds other bytes than were saved"
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return f"{_SUMS} or a file it lists: {error}"
    return ""


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
