"""One process at a time in a folder: a lock that the system drops however its holder ends."""

from __future__ import annotations

import errno
import importlib
import os
import platform
import re
import stat
import weakref
from pathlib import Path
from types import ModuleType

from perceptual_jax.errors import InputError

__all__ = ["Lock", "taken"]

_FILE = ".lock"
_HOLDER = re.compile(r"process [0-9]{1,20} on [A-Za-z0-9._-]{1,200}")
_LONGEST = 300
"""Of what a lock's file says, in bytes."""


class Lock:
    """A folder's lock, held until it is released, nothing refers to it, or its process ends."""

    def __init__(self, handle: int):
        """That of an open file, which it closes."""
        self._close = weakref.finalize(self, os.close, handle)

    @property
    def held(self) -> bool:
        """Whether it was not released yet."""
        return self._close.alive

    def release(self) -> None:
        """Lets others have it."""
        self._close()


_own: weakref.WeakValueDictionary[tuple[int, int], Lock] = weakref.WeakValueDictionary()
"""What this process holds, by the files' devices and numbers: it does not lock itself out."""


def taken(folder: Path) -> Lock | None:
    """Takes a folder's lock; if this process holds it already, that one.

    Args:
      folder: which is there, and may be given another name while it is locked.

    Returns:
      The lock; None where there can be none: a system or a file system without locks, or a folder
      that may not be written to.

    Raises:
      InputError: if another process holds it, naming that where it is known.
    """
    fcntl = _fcntl()
    if fcntl is None:
        return None
    try:
        # Nothing is followed or cut short: what is in the folder may come from others.
        handle = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError:
        return None
    status = os.fstat(handle)
    held = _own.get((status.st_dev, status.st_ino))
    if (held is not None and held.held) or not stat.S_ISREG(status.st_mode):
        os.close(handle)
        return held
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = _said(handle)
        os.close(handle)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise InputError(
            f"{folder} is in use by {holder}: wait until that is done or stop it, or start another "
            "run under another --name"
        ) from None
    _say(handle)
    lock = _own[status.st_dev, status.st_ino] = Lock(handle)
    return lock


def _fcntl() -> ModuleType | None:
    try:
        return importlib.import_module("fcntl")
    except ModuleNotFoundError:  # Not every system has it.
        return None


def _say(handle: int) -> None:
    """Writes down who holds the lock, for whoever is refused; without that it is as good."""
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
    except OSError:  # No room.
        return


def _said(handle: int) -> str:
    text = os.pread(handle, _LONGEST, 0).decode(errors="replace")
    return text if _HOLDER.fullmatch(text) else "another process"
