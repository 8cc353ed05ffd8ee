"""The pages in docs/ speak of everything there is."""

import re
from pathlib import Path

import pytest

import perceptual_jax as pj

DOCS = Path(__file__).parent.parent / "docs"
DISTANCES = (DOCS / "distances.md").read_text()
# Weights that no package carries, so that no cost or error could be measured with them.
NOT_MEASURED = {
    *("vgg11", "vgg13", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("squeezenet1_0", "squeezenet1_1", "lpips-squeeze"),
}


def test_every_distance_has_a_paragraph():
    described = re.findall(r"\*\*`([^`]+)`\*\*", DISTANCES)
    assert sorted(described) == sorted(pj.names())


@pytest.mark.parametrize("table", ["costs", "precision"])
def test_every_distance_is_measured(table):
    (rows,) = re.findall(rf"<!-- {table} -->\n(.*?)<!-- end -->", DISTANCES, re.DOTALL)
    measured = re.findall(r"^\| `([^`(]+)", rows, re.MULTILINE)
    assert measured == [name for name in pj.names() if name not in NOT_MEASURED]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Files exist, and so do the headings of this page."""
    text = page.read_text()
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        assert link[1:] in headings if link.startswith("#") else (DOCS / link).exists()
