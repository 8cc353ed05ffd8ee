"""Arrays in NumPy's files, read as what may be damaged."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from perceptual_jax.errors import InputError, shortened

__all__ = ["read_array", "read_arrays"]

_MOST_REPEATED = 1100  # How many times smaller DEFLATE can make what it is given.


def read_array(path: Path, what: str, remedy: str) -> np.ndarray:
    """Reads a `.npy` file; nothing in it is executed.

    Args:
      path: the file.
      what: what it should be, for the message.
      remedy: what to do where it is not.

    Raises:
      InputError: for any other file.
    """
    try:
        # Mapped: a header that says more than there is fails before memory is taken.
        mapped = np.lib.format.open_memmap(path, mode="r")
        found = np.array(mapped)
    except Exception as error:  # NumPy raises errors of every kind on damaged headers.
        raise _unreadable(path, what, remedy, error) from None
    return found


def read_arrays(path: Path, what: str, remedy: str) -> dict[str, np.ndarray]:
    """Reads a `.npz` file: `{name: array}`; for the rest as `read_array`."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MOST_REPEATED * path.stat().st_size:
            raise ValueError(f"it says it holds {size:,} bytes")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # As above, and those of archives.
        raise _unreadable(path, what, remedy, error) from None


def _unreadable(path: Path, what: str, remedy: str, error: Exception) -> InputError:
    reason = shortened(str(error).split("\n")[0]) or type(error).__name__
    return InputError(f"{path} cannot be read as {what} ({reason}): {remedy}")
