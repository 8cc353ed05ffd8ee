"""What the folders of runs hold. They may be half-written, of another version, or hostile.

Nothing is followed out of a folder: links are named, not read. Files are read up to a size, and
whatever cannot be used becomes a line that says so.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import quote

from experiments.__main__ import COMMANDS
from experiments.common.run_folder import RunFolder, is_name
from experiments.report.numbers import Headline, averaged, headline, trimmed
from experiments.report.thumbnails import description, face, is_picture, is_plot, thumbnail
from perceptual_jax.errors import InputError

__all__ = ["Run", "State", "find"]

State = Literal["finished", "unfinished", "unknown"]

_LARGEST_FILE = 16 * 2**20
"""Bytes of a JSON file that are read at most; the largest of ours have some hundred thousand."""
_MOST_PICTURES = 150
"""Of a run, that are looked at; a training that saves one every so many steps has many more."""
_MOST_OPTIONS = 200
_MOST_PROBLEMS = 12
_LONGEST_TEXT = 300
_LONGEST_GIVEN = 40
_YEAR_9999 = 253_370_764_800.0
_TAIL = 2**16
"""Bytes of metrics.jsonl that its last line is sought in."""
_NOT_SHOWN = ("out", "name", "resume")
"""Options that say where a run is, not what it did."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, as the page shows it.

    Attributes:
      command: the command that made it: its folder's name, printable.
      name: its own, likewise.
      path: from the page to its folder, as a URL.
      state: finished if it has its report (and results, if it is one that can be resumed).
      problems: what is wrong with the folder, a sentence each.
      started: when, in seconds since 1970; when its folder was changed, if it does not say.
      written: when it last wrote its metrics, likewise, or None.
      step: the last that was logged, or None.
      resume: the command that goes on with it, or None.
      report: from the page to its report, as a URL, or None.
      given: the two that were compared, the ends of their paths; of other commands nothing.
      options: `{option: value as text}`.
      made_with: `{package, devices or weights: text}`.
      numbers: its results, nested as in results.json, without long lists.
      left_out: how many of them were too many.
      headline: the one number to show, or None.
      pictures: `{name: URL from the page}`, the one that stands for the run first.
      descriptions: `{name: what the picture says of itself}`, of those that do.
      plots: the names of those that are plots.
      thumbnail: a data URL, or None.
    """

    command: str
    name: str
    path: str
    state: State
    problems: tuple[str, ...]
    started: float = 0.0
    written: float | None = None
    step: int | None = None
    resume: str | None = None
    report: str | None = None
    given: tuple[str, ...] = ()
    options: dict[str, str] = dataclasses.field(default_factory=dict)
    made_with: dict[str, str] = dataclasses.field(default_factory=dict)
    numbers: dict[str, Any] = dataclasses.field(default_factory=dict)
    left_out: int = 0
    headline: Headline | None = None
    pictures: dict[str, str] = dataclasses.field(default_factory=dict)
    descriptions: dict[str, str] = dataclasses.field(default_factory=dict)
    plots: tuple[str, ...] = ()
    thumbnail: str | None = None


def find(folder: Path) -> list[Run]:
    """The runs `folder/<command>/<name>/`, newest first."""
    runs = []
    for command in _folders(folder):
        inside = [command] if command.is_symlink() else _folders(command)
        runs += [_read(folder, path) for path in inside]
    return sorted(runs, key=lambda run: (-run.started, run.command, run.name))


def _folders(parent: Path) -> list[Path]:
    """The folders in it, links to folders among them, which the caller must not follow."""
    try:
        names = sorted(entry.name for entry in os.scandir(parent) if entry.name[0] != ".")
    except OSError:  # One that may not be read has no runs to show.
        return []
    return [parent / name for name in names if _is_folder(parent / name)]


def _read(top: Path, path: Path) -> Run:
    command, problems = path.relative_to(top).parts[0], list[str]()
    run = Run(_text(command), _text(path.name), _url(path, top), "unknown", ())
    if path.is_symlink():
        return dataclasses.replace(
            run, problems=("a link to another folder, which is not followed",)
        )
    about = _json(path / "config.json", problems)
    options = about.get("config", {}) if about else {}
    if about is not None and not (isinstance(options, dict) and options):
        problems.append("config.json names no options")
        options = {}
    results = _json(path / "results.json", problems) if _exists(path / "results.json") else None
    reported = _is_file(path / "report.html")
    if about:
        # What enlarges or fills given pictures has no results but these, and cannot be resumed.
        whole = reported and (results is not None or "resume" not in options)
        run = dataclasses.replace(run, state="finished" if whole else "unfinished")
    pictures = _pictures(path, problems)
    chosen = face(command, list(pictures), finished=run.state == "finished")
    started, log = _started(about or {}), path / "metrics.jsonl"
    shown, left_out = trimmed(averaged(command, results or {}))
    return dataclasses.replace(
        run,
        started=_changed(path) or 0.0 if started is None else started,
        written=_changed(log),
        step=_last_step(log) if _is_file(log) else None,
        resume=_resume(path, command, options) if run.state == "unfinished" else None,
        report=_url(path / "report.html", top) if reported else None,
        given=_given(options) if command == "compare" else (),
        options={
            _text(key): _value(value)
            for key, value in list(options.items())[:_MOST_OPTIONS]
            if key not in _NOT_SHOWN
        },
        made_with=_made_with(about or {}),
        numbers=shown,
        left_out=left_out,
        headline=headline(command, results or {}),
        pictures={
            _text(str(file.relative_to(path))): _url(file, top)
            for file in sorted(pictures, key=lambda file: file != chosen)
        },
        descriptions={
            _text(str(file.relative_to(path))): _text(said)
            for file, said in pictures.items()
            if said
        },
        plots=tuple(_text(str(file.relative_to(path))) for file in pictures if is_plot(file)),
        thumbnail=None if chosen is None else _thumbnail(chosen, problems),
        problems=_some(problems),  # Last: what is above adds to them.
    )


def _some(problems: list[str]) -> tuple[str, ...]:
    more = len(problems) - _MOST_PROBLEMS
    return (*problems[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else []))


def _resume(path: Path, command: str, options: dict[str, Any]) -> str | None:
    """What to type to go on with it; None for what cannot be resumed, or is not of our naming."""
    if command not in COMMANDS or "resume" not in options or not is_name(path.name):
        return None
    return RunFolder(path, command).resume_command


def _given(options: dict[str, Any]) -> tuple[str, ...]:
    """The last parts of the paths `a` and `b`: as many of three as tell them apart, else one."""
    paths = [options.get(key) for key in ("a", "b")]
    parts = [PurePath(p[-_LONGEST_TEXT:]).parts for p in paths if isinstance(p, str) and p]
    if len(parts) < len(paths):
        return ()
    many = next((n for n in (1, 2, 3) if parts[0][-n:] != parts[1][-n:]), 1)
    names = [_text(str(PurePath(*each[-many:]))) for each in parts]
    half = _LONGEST_GIVEN // 2
    return tuple(n if len(n) <= _LONGEST_GIVEN else f"{n[:half]}…{n[-half:]}" for n in names)


def _made_with(about: dict[str, Any]) -> dict[str, str]:
    found = {}
    for part in ("versions", "weights"):
        values = about.get(part)
        for key, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, dict):  # The provenance of a weight set.
                value = f"{value.get('source')}, sha256 {str(value.get('sha256'))[:12]}"
            found[_text(key)] = _value(value)
    if "devices" in about:
        found["devices"] = _value(about["devices"])
    return dict(list(found.items())[:_MOST_OPTIONS])


def _started(about: dict[str, Any]) -> float | None:
    text = about.get("started")
    try:
        when = datetime.datetime.fromisoformat(text) if isinstance(text, str) else None
        return None if when is None else when.timestamp()
    except (ValueError, OverflowError):
        return None


def _last_step(path: Path) -> int | None:
    """The step in the last whole line of metrics.jsonl."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):  # Cut short by a kill.
            continue
        step = value.get("step") if isinstance(value, dict) else None
        return step if type(step) is int and 0 <= step < 2**53 else None
    return None


# --- Pictures ------------------------------------------------------------------------------


def _pictures(path: Path, problems: list[str]) -> dict[Path, str]:
    """Pictures that can be shown, of the folder and those below it, and what they say they are.

    Finished ones come first.
    """
    found = sorted(
        (file for file in _files_below(path, problems) if is_picture(file)),
        key=lambda file: (len(file.parts), "-step-" in file.name, file.name),
    )
    usable = {}
    for file in found[:_MOST_PICTURES]:
        try:
            usable[file] = description(file)
        except InputError as error:
            problems.append(f"{_text(str(file.relative_to(path)))} {error}")
    return usable


def _files_below(path: Path, problems: list[str]) -> Iterator[Path]:
    """Files that are no links, two folders deep, checkpoints left out."""
    for folder, below, names in os.walk(path, followlinks=False):
        here = Path(folder)
        deep = len(here.relative_to(path).parts)
        below[:] = sorted(n for n in below if n != "checkpoints" and n[0] != "." and deep < 2)
        for name in (*names, *below):
            if (here / name).is_symlink():
                relative = _text(str((here / name).relative_to(path)))
                problems.append(f"{relative} is a link, which is not followed")
        yield from (here / name for name in names if _is_file(here / name))


def _thumbnail(picture: Path, problems: list[str]) -> str | None:
    try:
        return thumbnail(picture)
    except InputError as error:
        problems.append(f"{_text(picture.name)} {error}")
        return None


# --- Files and text that may be anything ---------------------------------------------------


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _is_file(path: Path) -> bool:
    """Whether it is a file itself: no link, no folder, no pipe, which would be waited for."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def _changed(path: Path) -> float | None:
    """When it was, in seconds since 1970; a file system may hold dates that a browser cannot."""
    try:
        return min(max(path.lstat().st_mtime, 0.0), _YEAR_9999)
    except OSError:
        return None


def _json(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """A JSON file's object; None, and a line that says why, if it has none."""
    if not _exists(path):
        problems.append(f"there is no {path.name}")
    elif not _is_file(path):
        problems.append(f"{path.name} is not a file")
    else:
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise ValueError(f"is larger than {_LARGEST_FILE // 2**20} MiB")
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("is not an object of keys and values")
            return found
        except (ValueError, RecursionError) as error:
            reason = str(error) if str(error).startswith("is ") else "is not JSON, or cut short"
            problems.append(f"{path.name} {reason}")
        except OSError as error:
            problems.append(f"{path.name} cannot be read: {error.strerror}")
    return None


def _text(text: str) -> str:
    """The text without what has no printable form; names of files may hold any bytes."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text[: _LONGEST_TEXT + 1])
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}…"


def _value(value: Any) -> str:
    """An option's value as text; of a long one the beginning, and what tells it from others."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply"
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return _text(text) + (f" (sha256 {digest})" if len(text) > _LONGEST_TEXT else "")


def _url(path: Path, top: Path) -> str:
    """From the page in `top` to the path: every byte but letters, digits and `._-~/` escaped."""
    return quote(os.fsencode(path.relative_to(top)))
