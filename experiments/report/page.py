"""The page over all runs: its parts put together into one file.

Data goes in as JSON that cannot end its element, and the script puts it onto the page as text
alone. A policy lets the browser run the scripts of this folder, and load nothing from elsewhere.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from experiments.common.report import LOOK
from experiments.report.runs import Run
from perceptual_jax._files import write_whole
from perceptual_jax.errors import InputError

__all__ = ["check_ours", "write"]

_OURS = '<meta name="generator" content="perceptual-jax report">'
_HEAD = 1000
"""Characters from the beginning of a page that hold this mark."""


def check_ours(path: Path) -> None:
    """Raises an `InputError` if there is something at the path that this command did not write."""
    try:
        if not path.is_symlink():
            with path.open(encoding="utf-8", errors="replace") as file:
                if _OURS in file.read(_HEAD):
                    return
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    raise InputError(f"{path} was not made by this command: move it away, or give another --out")


def write(path: Path, runs: Sequence[Run]) -> None:
    """Writes the page, whole or not at all.

    Raises:
      InputError: if it cannot be written.
    """
    made = datetime.datetime.now(datetime.UTC).timestamp()
    style, pair, page = LOOK + _part("style.css"), _part("pair.js"), _part("page.js")
    filled = {
        "ours": _OURS,
        "policy": _policy(style, pair, page),
        "style": style,
        "pair": pair,
        "page": page,
        "data": _data({"made": made, "runs": [_as_json(run) for run in runs]}),
    }
    # In one pass: what is filled in may hold the names of other places.
    whole = re.sub(r"\{\{(\w+)\}\}", lambda place: filled[place[1]], _part("page.html"))
    try:
        write_whole(path, whole.encode())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _part(name: str) -> str:
    return files("experiments.report").joinpath("web", name).read_text(encoding="utf-8")


def _as_json(run: Run) -> dict[str, Any]:
    headline = None if run.headline is None else run.headline._asdict()
    return dataclasses.asdict(run) | {"headline": headline}


def _data(value: Any) -> str:
    """JSON that can stand inside of a script element: no `<` ends it or begins a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c")


def _policy(style: str, *scripts: str) -> str:
    """What the browser may do: this style, these scripts, pictures beside the page."""
    return (
        f"default-src 'none'; img-src 'self' data: file:; style-src {_digest(style)}; "
        f"script-src {' '.join(map(_digest, scripts))}; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
