"""Everything public is documented, and the reference shows it."""

import ast
import importlib
import inspect
import pkgutil
import re
from itertools import pairwise
from pathlib import Path

import pytest

import perceptual_jax as pj

DOCS = Path(__file__).parent.parent / "docs"


def public_modules() -> list[str]:
    """The library's modules whose names do not begin with an underscore."""
    found = pkgutil.walk_packages(pj.__path__, "perceptual_jax.")
    return ["perceptual_jax", *(module.name for module in found if "._" not in module.name)]


def documented_assignments(module) -> set[str]:
    """The names that a module assigns with a text below, as constants are documented."""
    body = ast.parse(Path(module.__file__).read_text()).body
    found = set()
    for statement, after in pairwise(body):
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
            continue
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        nodes = (node for target in targets if target for node in ast.walk(target))
        found |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return found


def undocumented(module) -> list[str]:
    """The public names of a module of which nothing is said, with the methods of its classes."""
    found = [] if module.__doc__ else [module.__name__]
    constants = documented_assignments(module)
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        full = f"{module.__name__}.{name}"
        if inspect.isclass(value) or is_function(value):
            parts = {full: value}
            if inspect.isclass(value):
                methods = {k: v for k, v in vars(value).items() if not k.startswith("_")}
                parts |= {f"{full}.{k}": v for k, v in methods.items() if is_method(v)}
            found += [part for part, each in parts.items() if not inspect.getdoc(each)]
        elif not inspect.ismodule(value) and name not in constants:
            found.append(full)
    return found


def is_function(value: object) -> bool:
    """Or one that is wrapped, with a gradient of its own or a cache."""
    return inspect.isfunction(value) or hasattr(value, "__wrapped__")


def is_method(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)


@pytest.mark.parametrize("name", public_modules())
def test_public_names_are_documented(name):
    # Said where it is assigned.
    elsewhere = {"perceptual_jax.backbones.PIXELS"}
    assert set(undocumented(importlib.import_module(name))) <= elsewhere


def test_undocumented_names_are_found(tmp_path, monkeypatch):
    lines = [
        '__all__ = ["A", "B", "C", "f", "g"]',
        "A = 1",
        'B = 2\n"""Said."""',
        'class C:\n    """Said."""\n    def method(self): pass',
        "def f(): pass",
        'def g():\n    """Said."""',
    ]
    (tmp_path / "bare.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    found = undocumented(importlib.import_module("bare"))
    assert found == ["bare", "bare.A", "bare.C.method", "bare.f"]


def test_the_reference_has_every_public_name():
    """A module as a whole, or each of its names, here or at the top of the package."""
    pages = (DOCS / "api.md").read_text() + (DOCS / "operations.md").read_text()
    shown = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    assert {f"perceptual_jax.{name}" for name in pj.__all__} <= shown
    for name in public_modules():
        public = getattr(importlib.import_module(name), "__all__", ())
        if name not in shown:
            missing = [
                each for each in public if not {f"{name}.{each}", f"perceptual_jax.{each}"} & shown
            ]
            assert missing == [], name


def test_the_reference_shows_nothing_else():
    pages = (DOCS / "api.md").read_text() + (DOCS / "operations.md").read_text()
    for name in re.findall(r"^::: (\S+)$", pages, re.MULTILINE):
        if name not in public_modules():
            module, _, attribute = name.rpartition(".")
            assert attribute in importlib.import_module(module).__all__
