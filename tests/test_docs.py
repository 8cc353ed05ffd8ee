"""The pages in docs/ speak of everything there is, and what they show runs."""

import importlib
import json
import re
import shlex
from pathlib import Path

import jax
import pytest

import perceptual_jax as pj
from experiments.__main__ import COMMANDS, _parse

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *(ROOT / folder / "README.md" for folder in ("examples", "weights", "benchmarks")),
    *sorted(DOCS.glob("*.md")),
]
DISTANCES = (DOCS / "distances.md").read_text()
# Weights that no package carries, so that no cost or error could be measured with them.
NOT_MEASURED = {
    *("vgg11", "vgg13", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("squeezenet1_0", "squeezenet1_1", "lpips-squeeze"),
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_every_distance_has_a_paragraph():
    described = re.findall(r"\*\*`([^`]+)`\*\*", DISTANCES)
    assert sorted(described) == sorted(pj.names())


@pytest.mark.parametrize("table", ["costs", "precision"])
def test_every_distance_is_measured(table):
    (rows,) = re.findall(rf"<!-- {table} -->\n(.*?)<!-- end -->", DISTANCES, re.DOTALL)
    measured = re.findall(r"^\| `([^`(]+)", rows, re.MULTILINE)
    assert measured == [name for name in pj.names() if name not in NOT_MEASURED]


# --- Links ---------------------------------------------------------------------------------


def headings(page: Path) -> set[str]:
    """What a page can be linked at, as the repository's web view names it."""
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    """Files exist, and so do the headings that are named."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


# --- What is shown runs --------------------------------------------------------------------


def blocks(page: Path, language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def plain_jax():
    """JAX as users have it, where tests have it strict: other packages rely on it."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("weights_store", "plain_jax")
@pytest.mark.parametrize(
    "page", [page for page in sorted(DOCS.glob("*.md")) if blocks(page, "python")], ids=name_of
)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """In order, in one namespace, given two batches of two images; README.md has its own test."""
    monkeypatch.chdir(tmp_path)
    x, y = jax.random.uniform(jax.random.key(0), (2, 2, 32, 32, 3))
    names = {"x": x, "y": y}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)
    assert names["pj"] is pj


def command_lines(page: Path) -> list[str]:
    """The calls of `perceptual-jax` in the page's blocks."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("perceptual-jax ")]


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)], ids=name_of)
def test_command_lines_are_understood(page):
    """Commands and options exist, and options' values are of the right kind."""
    for line in command_lines(page):
        line = re.sub(r" --(distributed|(coordinator|process-count|process-id) \S+)", "", line)
        _, command, *arguments = shlex.split(line, comments=True)
        module = importlib.import_module(COMMANDS[command][0])
        assert type(_parse(command, module, arguments)).__module__.startswith("experiments."), line


def test_every_command_has_a_section_with_an_example():
    text = (DOCS / "commands.md").read_text()
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE))
    assert set(sections) == set(COMMANDS)
    for command, section in sections.items():
        assert f"\nperceptual-jax {command}" in section


# --- Numbers that stand on two pages -------------------------------------------------------


def rows(text: str) -> list[list[str]]:
    """The cells of a table's lines that begin with code."""
    lines = re.findall(r"^\| `.*\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_to_choose_by_repeats_other_pages():
    judged = {
        row[0].replace("(levels=3)", ""): f"{float(row[1]):.3f}".lstrip("0")
        for row in rows((DOCS / "judgements.md").read_text())
        if len(row) == 3
    }
    (costs,) = re.findall(r"<!-- costs -->\n(.*?)<!-- end -->", DISTANCES, re.DOTALL)
    cost = {row[0]: tuple(row[1:]) for row in rows(costs)}
    names, sharpness = re.findall(r"^\| (\|.* l2 .*|sharpness.*)\|$", DISTANCES, re.MULTILINE)
    names, sharpness = (
        [cell.strip() for cell in line.split("|")[1:]] for line in (names, sharpness)
    )
    sharp = dict(zip([f"`{name}`" for name in names], sharpness, strict=True))
    table = (DOCS / "choosing.md").read_text().split("## By the numbers")[1]
    found = [row for row in rows(table) if len(row) == 6]
    assert len(found) > 20
    assert set(sharp) - {row[0].split(" (")[0] for row in found} <= {"`lap1`"}
    for name, people, milliseconds, mebibytes, sharpness, _ in found:
        name = name.split(" (")[0]
        assert people == judged.get(name, ""), name
        assert (milliseconds, mebibytes) == cost[name], name
        assert sharpness == sharp.get(name, ""), name


def span(ratios: list[float]) -> str:
    """From the least to the greatest, as pages write it."""
    low, high = f"{min(ratios, default=0):.2f}", f"{max(ratios, default=0):.2f}"
    return "" if not ratios else low if low == high else f"{low} to {high}"


def test_ratios_are_those_of_the_benchmarks():
    measured = json.loads((ROOT / "benchmarks" / "results.json").read_text())["rows"]
    table = (DOCS / "performance.md").read_text().split("\n## ")[1]
    line = r"^\| `([^`]+)`, (value|gradient) \|(.*)\|(.*)\|$"
    lines = re.findall(line, table, re.MULTILINE)
    assert len(lines) > 8
    for name, kind, *written in lines:
        found = [
            row["ratios"] for line, row in measured.items() if line.startswith(f"{name} {kind}")
        ]
        for peers, cell in zip(("PyTorch", "JAX"), written, strict=True):
            assert cell.strip() == span([row[peers]["ratio"] for row in found if peers in row]), (
                name
            )
