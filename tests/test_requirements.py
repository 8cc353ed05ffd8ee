"""The lists of packages agree with each other: bounds, pins, licences."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def required(*lists) -> dict[str, Requirement]:
    """`{name: requirement}` of others than this project's own extras."""
    found = [Requirement(line) for lines in lists for line in lines]
    return {canonicalize_name(r.name): r for r in found if r.name != "perceptual-jax"}


def pinned(name: str) -> dict[str, Version]:
    """`{name: version}` of a file of pins, which holds nothing else: no address, no path."""
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line) for line in pins)
    return {
        canonicalize_name(package): Version(version)
        for package, version in (line.split("==") for line in pins)
    }


def test_the_oldest_are_the_lower_bounds():
    wanted = required(PROJECT["dependencies"], EXTRAS["experiments"], EXTRAS["pretrained"])
    bounds = {
        name: Version(part.version)
        for name, requirement in wanted.items()
        for part in requirement.specifier
        if part.operator in (">=", "==")
    }
    assert pinned("oldest.txt") == bounds


def test_what_the_tests_ran_with_is_allowed_and_complete():
    pins = pinned("development.txt")
    wanted = required(PROJECT["dependencies"], *EXTRAS.values())
    assert set(wanted) <= set(pins)
    for name, requirement in wanted.items():
        assert pins[name] in requirement.specifier, name


def test_every_licence_is_listed():
    rows = re.findall(r"^\| ([A-Za-z0-9_.-]+) \| .+ \| .+ \|$",
                      (ROOT / "docs" / "licences.md").read_text(), re.MULTILINE)  # fmt: skip
    listed = [canonicalize_name(name) for name in rows if name != "package"]
    assert listed == list(required(PROJECT["dependencies"], *EXTRAS.values()))
