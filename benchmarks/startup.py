"""How long one waits for the first thing to happen: whole processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

import perceptual_jax as pj
from benchmarks.timing import Peers, Row, Work

__all__ = ["ROWS"]

_ROOT = Path(__file__).parent.parent
_COMMAND = (sys.executable, "-m", "experiments")


def _import() -> Work:
    """From a process that has imported JAX to one that has imported the library."""
    waiting: subprocess.Popen | None = None

    def prepare() -> None:
        nonlocal waiting
        waiting = subprocess.Popen(
            [sys.executable, "-c", "import jax; print(); input(); import perceptual_jax"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        waiting.stdout.readline()

    def call() -> None:
        waiting.communicate("\n")
        assert waiting.returncode == 0

    return Work(call, prepare=prepare)


def _run(arguments: list[str], **environment: str) -> None:
    subprocess.run(
        [*_COMMAND, *arguments],
        cwd=_ROOT,
        env=os.environ | environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _compare(*, again: bool) -> Work:
    """Two pictures by LPIPS, with the programs that a run before has compiled or without any."""
    temporary = tempfile.TemporaryDirectory()
    folder = Path(temporary.name)
    cache = folder / "cache"
    (cache / "weights").mkdir(parents=True)
    for weights in ("alexnet", "lpips-alex-v0.1"):
        file = pj.weights.find(weights)
        if file.parent == pj.weights.cache_folder() / "weights":
            (cache / "weights" / file.name).symlink_to(file)
    pictures = [str(folder / f"{name}.png") for name in "ab"]
    for picture, pixels in zip(
        pictures, np.random.default_rng(0).random((2, 64, 64, 3)), strict=True
    ):
        pj.images.write(picture, pixels)
    arguments = ["compare", *pictures, "--distances", "lpips-alex", "--out", str(folder / "runs")]

    def forget() -> None:
        if not again:
            shutil.rmtree(Path(temporary.name, "cache", "compiled"), ignore_errors=True)

    return Work(partial(_run, arguments, PERCEPTUAL_JAX_CACHE=str(cache)), prepare=forget)


ROWS = {
    "import, over import jax": Row(_import, {}, limit=0.5),
    "perceptual-jax --help": Row(lambda: Work(partial(_run, ["--help"])), {}, limit=1.0),
    "compare, second run": Row(
        partial(_compare, again=True),
        {"first run": Peers({"first run": partial(_compare, again=False)}, budget=0.7)},
    ),
}
"""Limits are in seconds; a second run finds what the first has compiled."""
