"""A real browser, to see what becomes of a page."""

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["chromium"]


def chromium(page: Path, profile: Path, *arguments: str) -> str:
    """Opens a page, with its scripts and its errors; gives what the arguments ask for."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not on the path: apt-get install chromium")
    return subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-quic", f"--user-data-dir={profile}", *arguments, page.as_uri(),
        ],
        check=True, capture_output=True, text=True, timeout=300,
    ).stdout  # fmt: skip
