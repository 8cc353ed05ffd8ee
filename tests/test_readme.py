"""The README's example runs, and its tables name what there is."""

import re
from pathlib import Path

import jax
import pytest

import perceptual_jax as pj
from experiments.__main__ import COMMANDS

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.slow
def test_the_python_example_runs(weights_store):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    x, y = jax.random.uniform(jax.random.key(0), (2, 2, 32, 32, 3))
    names = {"x": x, "y": y}
    exec(example, names)
    assert names["d"].shape == (2,)
    assert names["gradient"].shape == x.shape


def test_every_distance_is_named():
    text = README.read_text().replace(
        "and of AlexNet", "`alexnet-random`, `alexnet-random-zero-mean`"
    )
    assert all(f"`{name}`" in text for name in pj.names())


def test_every_command_is_shown():
    text = README.read_text()
    assert all(f"perceptual-jax {command}" in text for command in COMMANDS)


def test_the_citation_is_of_this_version():
    citation = (README.parent / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [pj.__version__]
