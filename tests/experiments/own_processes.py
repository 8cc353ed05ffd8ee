"""Commands in processes of their own, which can be killed, and what they leave."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from perceptual_jax import weights


class Command(NamedTuple):
    """A command that a process runs, of a few seconds' work.

    Attributes:
      arguments: its name and options.
      devices: of its process.
      leaves: patterns of the files that must be those of an unbroken run.
      done: of those that say how far it came.
      kills: how often it is killed, anywhere in the lives of its processes.
      first: is executed before it.
    """

    arguments: str
    devices: int
    leaves: tuple[str, ...]
    done: str
    kills: int
    first: str = ""


GLO = Command(
    "glo --distances l2 --measures l2 --neighbours l2 --feature-weights random --images 40 "
    "--held-out 0.3 --size 16 --code 6 --width 0.0625 --batch 8 --warm-up 2 --epochs 10 "
    "--snapshot-every 2 --samples 9 --samplers normal --held-out-steps 2",
    1,
    ("**/*.png", "results.json", "data.json"),
    "*-step-*.png",
    10,
)
TWO_AFC = Command(
    "two-afc --distances l2 ssim --per-distortion 3 --size 32",
    2,
    ("distances/*", "*.png", "results.*"),
    "distances/*.npy",
    40,
    "from experiments.common import pairs; pairs._PART_IMAGES = 6",
)


def started(top, command, name, *, devices=None, resume=False, more=()):
    """A process that runs a command in `top`, without a name if that is None."""
    arguments = command.arguments.split()
    arguments = [arguments[0], "--resume"] if resume else [*arguments, *more]
    arguments += ["--out", str(top), *(["--name", name] if name else [])]
    script = f"""{command.first}
import sys
from experiments.__main__ import main
sys.exit(main({arguments!r}))
"""
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices or command.devices}",
        weights.CACHE_VARIABLE: str(top / "cache"),  # Of compiled programs.
    }
    with (top / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdout=subprocess.DEVNULL, stderr=log
        )


def finished(top, command, name, **options):
    """Runs it to its end."""
    code = started(top, command, name, **options).wait(300)
    assert code == 0, (top / f"{name}.log").read_text()


def left_by(folder: Path, command):
    """What a run leaves, by name."""
    files = {path for pattern in command.leaves for path in folder.glob(pattern)}
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


def lines(folder: Path):
    """What was logged."""
    path = folder / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []
