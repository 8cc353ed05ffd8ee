"""Reads the files of a folder within limits, and prints what came of each, one JSON a line.

A file that takes longer than it may ends the process, and so do those that crash it: the first
file that nothing is printed of is the one.
"""

import hashlib
import json
import resource
import signal
import sys
from pathlib import Path

from conversion import numpy_pickles, torch_files
from conversion.tensors import Tensor
from perceptual_jax.errors import InputError

SECONDS = 5
MEMORY = 500 * 2**20


def digest(tree) -> str:
    """Of a tree and of all values of its tensors; what is shared is read once."""
    done: dict[int, int] = {}
    digest = hashlib.sha256()

    def walk(value) -> None:
        if id(value) in done:
            digest.update(f"again {done[id(value)]}".encode())
            return
        if isinstance(value, Tensor):
            digest.update(f"{value.shape} {value.dtype}".encode())
            if value.shape:
                digest.update(value.read().tobytes())
        elif isinstance(value, dict):
            digest.update(f"{list(value)!r}".encode())
            for item in value.values():
                walk(item)
        elif isinstance(value, (list, tuple)):
            digest.update(f"{len(value)}".encode())
            for item in value:
                walk(item)
        else:
            digest.update(repr(value).encode())
            return  # Plain values are shared by chance.
        done[id(value)] = len(done)

    walk(tree)
    return digest.hexdigest()


def outcome(path: Path) -> tuple[str, str]:
    read = numpy_pickles.read_arrays if path.suffix == ".pkl" else torch_files.read
    try:
        return "read", digest(read(path))
    except InputError as error:
        return "refused", str(error)
    except Exception as error:
        return "raised", f"{type(error).__name__}: {error}"


def main(folder: str) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for path in sorted(Path(folder).iterdir()):
        signal.alarm(SECONDS)
        result = outcome(path)
        signal.alarm(0)
        print(json.dumps([path.name, *result]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
