"""A run's folder: `runs/<command>/<name>/` with its configuration, metrics and pictures."""

from __future__ import annotations

import builtins
import dataclasses
import datetime
import errno
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import shutil
import types
import typing
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import jax

import perceptual_jax as pj
from experiments.common import hosts
from experiments.common.lock import Lock, taken
from perceptual_jax import weights
from perceptual_jax._files import write_whole
from perceptual_jax.errors import InputError, shortened

__all__ = [
    "RunFolder",
    "check_given",
    "file_name",
    "is_begun",
    "is_name",
    "resumed",
    "start",
    "weights_used",
]

C = TypeVar("C")

_PACKAGES = ("jax", "jaxlib", "numpy", "optax", "orbax-checkpoint", "pillow", "scikit-image")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_COUNTS = {"step": (int,), "epoch": (int, float), "start": (int,)}
"""By which a resumed run goes, where a line has them; an epoch may be begun."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
      path: where it is; of several processes the first one's, to others a folder of their own
        that is thrown away.
      command: the command that made it.
      made: the folders above it that were made for it, innermost first.
      common: where it is for all processes; by default the path.
      lock: keeps other runs out as long as this is referred to; None where there can be none, and
        of several processes with all but the first.
    """

    path: Path
    command: str
    made: tuple[Path, ...] = ()
    common: Path | None = None
    lock: Lock | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def shared(self) -> Path:
        """Where all processes read, and where what they write together is."""
        return self.common or self.path

    @property
    def resume_command(self) -> str:
        """What to type to go on with this run."""
        out = shlex.quote(str(self.shared.parent.parent))
        return f"perceptual-jax {self.command} --out {out} --name {self.shared.name} --resume"

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file, whole or not at all; numbers that are not finite become null."""
        text = json.dumps(_finite(value), indent=2, allow_nan=False)
        write_whole(self.path / name, (text + "\n").encode())

    def log(self, **metrics: Any) -> None:
        """Appends a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of metrics.jsonl.

        Those that are none, cut short by a kill or damaged, are passed over: the steps of the last
        are taken again.
        """
        path = self.shared / "metrics.jsonl"
        if not path.exists():
            return []
        lines = []
        for line in path.read_bytes().split(b"\n"):
            with suppress(ValueError, RecursionError):
                found = json.loads(line)
                if isinstance(found, dict) and all(
                    type(found.get(count, 0)) in kinds for count, kinds in _COUNTS.items()
                ):
                    lines.append(found)
        return lines

    def keep_metrics(self, lines: Iterable[dict[str, Any]]) -> None:
        """Replaces metrics.jsonl: a resumed run forgets what came after its checkpoint."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_whole(self.path / "metrics.jsonl", text.encode())

    def forget_after(self, step: int, label: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Keeps of the lines with a label those up to a step, which it returns; and all others."""
        logged = self.metrics()
        hosts.wait()  # Until all have read.
        own = [line for line in logged if label.items() <= line.items()]
        kept = [line for line in own if line.get("step", 0) <= step]
        self.keep_metrics([*(line for line in logged if line not in own), *kept])
        return kept

    @contextmanager
    def discarded_on_error(self) -> Iterator[None]:
        """Removes what was made for the run if the block raises: nothing is half-written."""
        try:
            yield
        except BaseException:
            if self.lock is not None:
                self.lock.release()
            shutil.rmtree(self.path, ignore_errors=True)
            for folder in self.made:
                with suppress(OSError):  # Another run may have begun in it meanwhile.
                    folder.rmdir()
            raise

    def same_data(self, found: Mapping[str, Mapping[str, Any]], *, write: bool = True) -> None:
        """Writes down what a run learns from; once that is done, raises if it is not the same.

        Args:
          found: `{file: what is known of it}`; None for what is not known now.
          write: whether this is all that will be known.

        Raises:
          InputError: naming a file that is gone, new, or not as it was.
        """
        path = self.shared / "data.json"
        if not path.exists():
            if write:
                self.write_json(path.name, found)
            return
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
            both = [name for name in found if name in begun.keys()]  # noqa: SIM118 - a list has none
            changed = [name for name in both if _differ(begun[name], found[name])]
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} cannot be read ({error}): delete it to go on with the data that are there"
            ) from None
        gone, new = (
            [name for name in a if name not in b] for a, b in ((begun, found), (found, begun))
        )
        for names, what in ((gone, "is gone"), (new, "is new"), (changed, "was changed")):
            if names:
                others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
                raise InputError(
                    f"the run {self.path} learned from other data: {names[0]}{others} {what}; put "
                    "the data back as they were, or start another run under another --name"
                )

    @contextmanager
    def writing(self, what: str, kept: str) -> Iterator[None]:
        """Says what is lost and what to do if the block finds no room or time, or may not write.

        Args:
          what: the block writes.
          kept: and what there is to go on from if it cannot.

        Raises:
          InputError: instead of the system's error.
        """
        try:
            yield
        except TimeoutError as error:
            # Orbax counts by the time of day: setting the clock forward is as good as a slow disk.
            raise InputError(
                f"{what} cannot be saved: it takes too long, or the clock was set forward "
                f"({error}); {kept}; go on with: {self.resume_command}"
            ) from error
        except OSError as error:
            if error.errno not in (*_FULL, *_REFUSED):
                raise
            place = error.filename or self.path
            remedy = "make room there" if error.errno in _FULL else "let it be written to"
            raise InputError(
                f"{what} cannot be saved: {place}: {error.strerror}; {kept}; {remedy}, then go on "
                f"with: {self.resume_command}"
            ) from error

    def write_image(
        self,
        name: str,
        image: Any,
        *,
        about: str = "",
        rows: Iterable[str] = (),
        columns: Iterable[str] = (),
    ) -> None:
        """Writes a picture, uint8 or floats in [0, 1]; the file says what it shows.

        Args:
          name: the file's, ending in .png.
          image: [h, w, 3].
          about: what is shown.
          rows: of a grid, from the top, what each shows.
          columns: from the left, likewise.
        """
        named = {"Rows": ", ".join(rows), "Columns": ", ".join(columns)}
        said = [about] if about else []
        said += [f"{what}: {names}." for what, names in named.items() if names]
        pj.images.write(self.path / name, image, description=" ".join(said))


def _differ(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether what is known both then and now is not the same."""
    known = [key for key, value in then.items() if None not in (value, now.get(key))]
    return any(then[key] != now[key] for key in known)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def resumed(command: str, config: C) -> C:
    """The configuration to go by: that of the first start where a run is resumed.

    Args:
      command: the command.
      config: its dataclass, with the fields out, name and resume.

    Raises:
      InputError: if there is no such run, or it is of another version.
    """
    if not config.resume:  # type: ignore[attr-defined]
        return config
    if config.name is None:  # type: ignore[attr-defined]
        raise InputError("--resume needs the --name of the run")
    _check_name(config.name)  # type: ignore[attr-defined]
    return _saved_config(Path(config.out) / command / config.name, config)  # type: ignore[attr-defined]


def check_given(command: str, config: Any, given: Collection[str]) -> None:
    """Raises an `InputError` if a run is resumed with an option that it was not started with.

    Args:
      command: the command.
      config: its dataclass, as the command line gives it.
      given: the fields that the command line names; others are not looked at.
    """
    saved = resumed(command, config)
    for name in sorted(set(given) - {"out", "name", "resume"}):
        now, then = getattr(config, name), getattr(saved, name)
        if now != then:
            raise InputError(
                f"--{name.replace('_', '-')} {_shown(now)} was given, but the run {config.name} "
                f"was started with {_shown(then)}: leave it out to go on as it began, or start "
                "another run under another --name"
            )


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def is_begun(out: Path | str, command: str, name: str) -> bool:
    """Whether there is a run of that name to resume: of a run that is a part of another one."""
    return (Path(out) / command / name / "config.json").exists()


def start(command: str, config: Any, *, distances: Iterable[pj.Distance] = ()) -> RunFolder:
    """Makes the folder of a new run, or opens that of one to be resumed.

    Args:
      command: the command.
      config: its dataclass, with the fields out and name, and resume where it can be.
      distances: what the run computes; the provenance of their weights is recorded.

    Raises:
      InputError: if the name is taken or not a name, if another process has the run to be resumed,
        or if the folder cannot be made.
    """
    begun: list[RunFolder] = []

    def begin() -> str:
        begun.append(_begun(command, config, distances))
        return str(begun[0].path)

    common = Path(hosts.first_says(begin))
    folder = begun[0] if begun else RunFolder(hosts.folder_of_no_run(), command, common=common)
    hosts.remember(folder.resume_command)
    return folder


def _begun(command: str, config: Any, distances: Iterable[pj.Distance]) -> RunFolder:
    parent, name = Path(config.out) / command, config.name
    can_resume = hasattr(config, "resume")
    if can_resume and config.resume:
        return _reopened(command, parent / name)
    if name is not None:
        _check_name(name)
    provenances = weights_used(distances)  # Fails, if weights are missing, before the folder is.
    made = tuple(folder for folder in (parent, *parent.parents) if not folder.exists())
    # It is given its name when it holds what a run needs to be resumed: whenever the process is
    # killed, there is a run of that name that can be gone on with, or none.
    unnamed = parent / f".{uuid.uuid4().hex}.part"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        unnamed.mkdir()
    except OSError as error:
        raise InputError(
            f"cannot make a folder in {parent}: {error.strerror}; choose another --out"
        ) from None
    folder = RunFolder(unnamed, command, made, lock=taken(unnamed))
    values = {
        "command": command,
        "config": dataclasses.asdict(config),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "devices": [device.device_kind for device in jax.devices()],
        "weights": provenances,
    }
    try:
        with folder.discarded_on_error():
            folder.write_json("config.json", values)
            path = _named(unnamed, parent, name)
    except FileExistsError:
        hint = ", or --resume it" if can_resume else ""
        raise InputError(f"the run {parent / name} exists: choose another --name{hint}") from None
    except OSError as error:
        raise InputError(
            f"cannot write to {parent}: {error.strerror}; make room there or choose another --out"
        ) from None
    return dataclasses.replace(folder, path=path)


def _reopened(command: str, path: Path) -> RunFolder:
    """The folder of a run to be resumed, without what a kill left half-written in it."""
    lock = taken(path)
    if lock is not None:
        for rest in path.rglob(".*.part"):
            with suppress(OSError):
                rest.unlink()
    return RunFolder(path, command, lock=lock)


def is_name(text: str) -> bool:
    """Whether a run can be called so."""
    return _NAME.fullmatch(text) is not None


def _check_name(name: str) -> None:
    if not is_name(name):
        raise InputError(f"--name must be letters, digits, '.', '_' and '-'; got {name!r}")


def _named(unnamed: Path, parent: Path, name: str | None) -> Path:
    """Gives a folder its name; without one that of the time, and a number if it is taken."""
    if name is not None:
        return _moved(unnamed, parent / name)
    stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    path, count = parent / stamp, 1
    while True:
        try:
            return _moved(unnamed, path)
        except FileExistsError:
            count += 1
            path = parent / f"{stamp}-{count}"


def _moved(folder: Path, path: Path) -> Path:
    """A folder under another name, unless something is there: all but an empty folder."""
    try:
        return folder.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        raise


def file_name(text: str) -> str:
    """The text as part of a file's name: itself if it can be, else shortened, with a digest."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-+.") else "_" for c in text)
    kept = kept.strip("_.")[:60]
    if kept and kept == text:
        return kept
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{kept}-{digest}".lstrip("-")


def _saved_config(path: Path, config: C) -> C:
    try:
        saved = json.loads((path / "config.json").read_text(encoding="utf-8"))["config"]
        kinds = _kinds(type(config))  # type: ignore[arg-type]
        if set(saved) != set(kinds):
            raise KeyError(", ".join(sorted(map(str, set(saved) ^ set(kinds)))))
        for key, value in saved.items():
            if not _fits(value, kinds[key]):
                raise TypeError(f"{key} cannot be {shortened(repr(value))}")
    except FileNotFoundError:
        raise InputError(f"there is no run {path} to resume") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = shortened(str(error), 1000)
        raise InputError(f"{path}/config.json is not of this version: {reason}") from None
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in saved.items()}
    here = {"resume": True, "out": config.out, "name": config.name}  # type: ignore[attr-defined]
    return dataclasses.replace(config, **(values | here))  # type: ignore[type-var]


@cache
def _kinds(config: Any) -> dict[str, Any]:
    """`{option: kind}`."""
    return typing.get_type_hints(config)


def _fits(value: Any, kind: Any) -> bool:
    """Whether what JSON gave is of the kind that an option is; tuples are lists there."""
    inner = typing.get_args(kind)
    match typing.get_origin(kind):
        case types.UnionType | typing.Union:
            return any(_fits(value, each) for each in inner)
        case typing.Literal:
            return any(type(value) is type(each) and value == each for each in inner)
        case builtins.tuple:
            if not isinstance(value, list):
                return False
            if inner[-1] is Ellipsis:
                return all(_fits(item, inner[0]) for item in value)
            return len(value) == len(inner) and all(map(_fits, value, inner))
    if kind is float and type(value) is int:
        return True
    return type(value) is kind or (value is None and kind is types.NoneType)


def weights_used(distances: Iterable[pj.Distance]) -> dict[str, dict[str, str]]:
    """The provenance of every pretrained weight set among the distances' params."""
    sets = {
        weight_set
        for distance in distances
        for weight_set in jax.eval_shape(distance.init, jax.random.key(0))
        if weight_set in weights.names()
    }
    return {weight_set: weights.provenance(weight_set)._asdict() for weight_set in sorted(sets)}


def _versions() -> dict[str, str]:
    found = {"perceptual-jax": pj.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
