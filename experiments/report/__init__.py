"""One page over all runs: find them again, and hold two of them side by side.

    perceptual-jax report                 # writes runs/index.html
    perceptual-jax report --out FOLDER    # the runs that were kept there

The page is one file that needs no server and nothing from elsewhere. It links to the runs' reports
and pictures beside it: move the folder as a whole, and it goes on working.
"""

from __future__ import annotations

import dataclasses
import webbrowser
from pathlib import Path

from experiments.common.progress import console
from experiments.report.page import check_ours, write
from experiments.report.runs import Run, find
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "Run", "run"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax report`."""

    out: str = "runs"
    """Where runs are kept: index.html is written there."""
    open: bool = False
    """Also open the page in a browser."""


PRESETS = {"default": Config()}


def run(config: Config) -> list[Run]:
    """Reads all runs' folders and writes the page.

    Returns:
      What was found, newest first.

    Raises:
      InputError: if there is no such folder, or an index.html in it that is not this command's.
    """
    folder = Path(config.out)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: run an experiment, or say where with --out")
    if any((each / "config.json").is_file() for each in folder.iterdir()):
        raise InputError(
            f"{folder} holds the runs of one command: give the folder that holds those of all, "
            f"--out {folder.resolve().parent}"
        )
    page = folder / "index.html"
    check_ours(page)
    runs = find(folder)
    write(page, runs)
    counts = {
        "runs": len(runs),
        "unfinished": sum(run.state == "unfinished" for run in runs),
        "with problems": sum(bool(run.problems) for run in runs),
    }
    console.print(", ".join(f"{n} {what}" for what, n in counts.items() if n or what == "runs"))
    console.print(f"report: {page}")
    if config.open and not webbrowser.open(page.resolve().as_uri()):
        console.print("no browser could be started: open the page by hand")
    return runs
