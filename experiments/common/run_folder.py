"""A run's folder: `runs/<command>/<name>/` with its configuration, metrics and pictures."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import jax

import perceptual_jax as pj
from perceptual_jax import weights
from perceptual_jax._files import write_whole
from perceptual_jax.errors import InputError

__all__ = ["RunFolder", "file_name", "start", "weight_checksums"]

C = TypeVar("C")

_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "orbax-checkpoint", "pillow", "scikit-image")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
      path: where it is.
      command: the command that made it.
    """

    path: Path
    command: str

    @property
    def resume_command(self) -> str:
        """What to type to go on with this run."""
        out = shlex.quote(str(self.path.parent.parent))
        return f"perceptual-jax {self.command} --out {out} --name {self.path.name} --resume"

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file, whole or not at all."""
        write_whole(self.path / name, (json.dumps(value, indent=2) + "\n").encode())

    def log(self, **metrics: Any) -> None:
        """Appends a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def keep_metrics(self, lines: Iterable[dict[str, Any]]) -> None:
        """Replaces metrics.jsonl: a resumed run forgets what came after its checkpoint."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_whole(self.path / "metrics.jsonl", text.encode())

    @contextmanager
    def discarded_on_error(self) -> Iterator[None]:
        """Removes the folder if the block raises: bad input leaves nothing half-written."""
        try:
            yield
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            with suppress(OSError):  # Folders made for this run alone; others are not empty.
                self.path.parent.rmdir()
                self.path.parent.parent.rmdir()
            raise

    def write_image(self, name: str, image: Any) -> Path:
        """Writes a picture, uint8 or floats in [0, 1]."""
        path = self.path / name
        pj.images.write(path, image)
        return path


def start(command: str, config: C, *, distances: Iterable[pj.Distance] = ()) -> tuple[RunFolder, C]:
    """Makes the folder of a new run, or opens that of one to be resumed.

    Args:
      command: the command.
      config: its dataclass, with the fields out, name and resume.
      distances: what the run computes; the checksums of their weights are recorded.

    Returns:
      The folder, and the configuration to go by: that of the first start if resumed.

    Raises:
      InputError: if the name is taken, or not a name, or there is nothing to resume.
    """
    out, name, resume = Path(config.out), config.name, config.resume  # type: ignore[attr-defined]
    parent = out / command
    if name is not None and not _NAME.fullmatch(name):
        raise InputError(f"--name must be letters, digits, '.', '_' and '-'; got {name!r}")
    if resume:
        if name is None:
            raise InputError("--resume needs the --name of the run")
        return RunFolder(parent / name, command), _saved_config(parent / name, config)
    checksums = weight_checksums(distances)  # Fails, if weights are missing, before the folder is.
    try:
        if name is None:
            name = _free_name(parent)
        (parent / name).mkdir(parents=True)
    except FileExistsError:
        raise InputError(
            f"the run {parent / name} exists: choose another --name, or --resume it"
        ) from None
    except OSError as error:
        raise InputError(f"cannot make the folder {parent / name}: {error.strerror}") from None
    folder = RunFolder(parent / name, command)
    folder.write_json(
        "config.json",
        {
            "command": command,
            "config": dataclasses.asdict(config),  # type: ignore[call-overload]
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": _versions(),
            "devices": [device.device_kind for device in jax.devices()],
            "weights": checksums,
        },
    )
    return folder, config


def file_name(text: str) -> str:
    """The text as part of a file's name: a distance's spec, say."""
    kept = "".join(c if c.isalnum() or c in "-+." else "_" for c in text)
    return kept.strip("_.")[:80]


def _free_name(parent: Path) -> str:
    """The time, and a number if two runs start within a second."""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    name, count = stamp, 1
    while (parent / name).exists():
        count += 1
        name = f"{stamp}-{count}"
    return name


def _saved_config(path: Path, config: C) -> C:
    try:
        saved = json.loads((path / "config.json").read_text(encoding="utf-8"))["config"]
        known = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
        if set(saved) != known:
            raise KeyError(", ".join(sorted(set(saved) ^ known)))
    except FileNotFoundError:
        raise InputError(f"there is no run {path} to resume") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}/config.json is not of this version: {error}") from None
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in saved.items()}
    return dataclasses.replace(config, **(values | {"resume": True}))  # type: ignore[type-var]


def weight_checksums(distances: Iterable[pj.Distance]) -> dict[str, str]:
    """The manifest's checksum of every pretrained weight set among the distances' params."""
    sets = {
        weight_set
        for distance in distances
        for weight_set in jax.eval_shape(distance.init, jax.random.key(0))
        if weight_set in weights.names()
    }
    return {weight_set: weights.entry(weight_set).sha256 for weight_set in sorted(sets)}


def _versions() -> dict[str, str]:
    found = {"perceptual-jax": pj.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
