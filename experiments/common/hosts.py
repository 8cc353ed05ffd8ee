"""The processes of a run: one; or several, on as many hosts, that all take the same steps.

Each runs the same program on devices of its own. What is written, the first one writes; what the
others would write goes into a folder that is thrown away. They see one folder of runs.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from experiments.common.progress import console
from perceptual_jax.errors import InputError

__all__ = [
    "agreed",
    "first_says",
    "folder_of_no_run",
    "join",
    "leads",
    "leave",
    "on_host",
    "own_rows",
    "placed",
    "remember",
    "several",
    "wait",
    "whole_rows",
]

T = TypeVar("T")

_HEARTBEAT_SECONDS = 30
"""After how long a process that says nothing is taken for lost."""
_JOINING_SECONDS = 120
_ENVIRONMENT = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "process_count": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}


_resume_command = "the same command"


# --- Joining -------------------------------------------------------------------------------


def join(arguments: Sequence[str]) -> list[str]:
    """Joins the other processes of a run, if the arguments ask for it; before JAX is used.

    Args:
      arguments: of a command.

    Returns:
      Those that are not about it: what is taken are --distributed; and --coordinator HOST:PORT,
      --process-count N and --process-id I, or the environment's JAX_COORDINATOR_ADDRESS,
      JAX_NUM_PROCESSES and JAX_PROCESS_ID, where JAX does not find them by itself (on TPU pods,
      under Slurm, Open MPI and Kubernetes it does).

    Raises:
      InputError: if they make no sense, or the processes do not find each other.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--distributed", action="store_true")
    for name in _ENVIRONMENT:
        parser.add_argument(_flag(name))
    known, rest = parser.parse_known_args(arguments)
    given = {name: getattr(known, name) for name in _ENVIRONMENT}
    if not known.distributed:
        for name, value in given.items():
            if value is not None:
                raise InputError(f"{_flag(name)} needs --distributed")
        return rest
    found = {name: given[name] or os.environ.get(_ENVIRONMENT[name]) for name in _ENVIRONMENT}
    count, own = (_number(name, found[name]) for name in ("process_count", "process_id"))
    if count is not None and own is not None and not 0 <= own < count:
        raise InputError(f"--process-id must be from 0 to {count - 1}, of {count}; got {own}")
    try:
        jax.distributed.initialize(
            found["coordinator"], count, own,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            initialization_timeout=_JOINING_SECONDS,
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(
            f"--distributed: the processes did not find each other ({reason}): give every one of "
            "them the same --coordinator HOST:PORT and --process-count, and its own --process-id"
        ) from None
    console.quiet = not leads()
    return rest


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise InputError(f"{_flag(name)} must be a whole number; got {text!r}")
    return int(text)


def several() -> bool:
    """Whether there are others."""
    return jax.process_count() > 1


def leads() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def folder_of_no_run() -> Path:
    """Where a process that does not lead writes: a folder that goes when the process does."""
    path = tempfile.mkdtemp(prefix="perceptual-jax-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)


# --- Agreeing ------------------------------------------------------------------------------


def agreed(asked: bool) -> bool:
    """Whether any process was asked; all must call it, as often as each other."""
    if not several():
        return asked
    return bool(_gathered(np.asarray([asked])).any())


def wait() -> None:
    """Until all processes are here."""
    agreed(False)


def first_says(what: Callable[[], str]) -> str:
    """What the first process finds; the others wait for it.

    Raises:
      InputError: in all of them, if it does in the first.
    """
    if not several():
        return what()
    said = {"found": "", "error": ""}
    if leads():
        try:
            said["found"] = what()
        except InputError as error:
            said["error"] = str(error)
    text = np.frombuffer(json.dumps(said).encode(), np.uint8)
    length = int(_gathered(np.asarray([len(text)]))[0])
    row = np.zeros((1, length), np.uint8)
    if leads():
        row[0] = text
    heard = json.loads(_gathered(row)[0].tobytes())
    if heard["error"]:
        raise InputError(heard["error"])
    return heard["found"]


def own_rows(count: int) -> np.ndarray:
    """Which of so many independent problems are this process's: as many on each, [k].

    The last one comes again where they do not divide.
    """
    each = -(-count // jax.process_count())
    return np.minimum(each * jax.process_index() + np.arange(each), count - 1)


def whole_rows(tree: T, count: int) -> T:
    """What every process has of its `own_rows`, put together: leaves [k, ...] to [count, ...].

    Scalars are the same on all.
    """
    if not several():
        return tree
    return jax.tree.map(
        lambda leaf: _gathered(np.asarray(leaf))[:count] if np.ndim(leaf) else leaf, tree
    )


def _gathered(rows: np.ndarray) -> np.ndarray:
    """Every process's rows, one after the other."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(rows, tiled=True))


# --- Arrays --------------------------------------------------------------------------------


def placed(tree: T, sharding: Any) -> T:
    """Arrays that every process has, on all devices: each puts what its own are to hold."""
    if not several():
        return jax.device_put(tree, sharding)

    def one(leaf: Any) -> Any:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(one, tree)


def on_host(tree: T) -> T:
    """Arrays of all devices as NumPy's, whole on every process; all must call it."""
    if not several():
        return jax.device_get(tree)

    def one(leaf: Any) -> Any:
        whole = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
        return np.asarray(leaf) if whole or leaf.is_fully_replicated else _gathered(leaf)

    return jax.tree.map(one, tree)


# --- Losing one ----------------------------------------------------------------------------


def remember(resume_command: str) -> None:
    """Keeps how to go on with the run that has begun; of several processes each says it at once.

    If the first one is lost, JAX ends the others from outside of Python: nothing can be said then.
    """
    global _resume_command
    _resume_command = resume_command
    if several():
        print(
            f"{jax.process_count()} processes, {jax.device_count()} devices; if one is lost, all "
            f"stop: start them again, or fewer, with: {resume_command} --distributed",
            file=sys.stderr,
            flush=True,
        )


def leave(reason: str) -> None:
    """Ends this process at once, without waiting for one that is lost; says how to go on."""
    print(
        f"perceptual-jax: another process of this run is lost ({reason[:200]}); start all of them "
        f"again, or fewer, with: {_resume_command} --distributed",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(3)
