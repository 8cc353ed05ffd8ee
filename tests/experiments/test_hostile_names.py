"""Reports of files with hostile names, opened in a real browser: nothing of a name runs."""

import csv
import re

import jax
import numpy as np
import pytest

import perceptual_jax as pj
from experiments.common import network_files
from experiments.fast_style.networks import KIND
from tests.experiments.browser import chromium

pytestmark = pytest.mark.browser

# Names of files have no slash, so no end tag; browsers do without.
NAME = "\"><img src=x onerror=document.title=666><svg onload=document.title=666>'&"
TEXT = f"{NAME}</title></pre></style><script>document.title=666</script><a href=javascript:1>"


def opened(page, tmp_path) -> str:
    """The page as the browser has it after its scripts and its errors."""
    return chromium(page, tmp_path / "profile", "--virtual-time-budget=5000", "--dump-dom")


def title(page: str) -> str:
    return re.search(r"<title>(.*?)</title>", page).group(1)


def assert_harmless(page: str, *shown: str) -> None:
    """Nothing ran, nothing is there that could, and the names are shown."""
    assert title(page) != "666"
    assert not re.search(r"<script|<svg|onerror=[^&]*>|href=.?javascript", strip_text(page))
    for text in shown:
        assert text in page


def strip_text(page: str) -> str:
    """The tags alone, without the values of the attributes that hold names as text."""
    return " ".join(re.sub(r'(alt|title)="[^"]*"', "", tag) for tag in re.findall(r"<[^>]*>", page))


SHOWN = "&gt;&lt;img src=x onerror=document.title=666&gt;"


@pytest.mark.parametrize("payload", [NAME, TEXT])
def test_a_script_that_runs_is_seen(tmp_path, payload):
    """The detector works: the same text, not escaped."""
    page = tmp_path / "control.html"
    page.write_text(f'<!doctype html><title>mine</title><img alt="{payload}">')
    assert title(opened(page, tmp_path)) == "666"


def test_compare(cli, tmp_path):
    """Pictures whose names, and whose comments, are scripts."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x010E] = TEXT
    for folder, seed in (("a", 0), (f"b{NAME}", 1)):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        for name in (NAME, "javascript:document.title=666"):
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png", exif=exif)
    outcome = cli("compare", "a", f"b{NAME}", "--distances", "l2", "--map", "--name", "x")
    assert outcome.code == 0, outcome.err
    page = opened(tmp_path / "runs/compare/x/report.html", tmp_path)
    assert_harmless(page, SHOWN, "javascript:document.title=666")


def test_two_afc(cli, picture, tmp_path):
    """A manifest with such a name, such splits, and such names of images."""
    for seed in range(3):
        picture(f"{NAME}{seed}.png", seed=seed, size=(20, 20))
    names = [f"{NAME}{seed}.png" for seed in range(3)]
    with (tmp_path / f"{NAME}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["ref", "p0", "p1", "judge", "split"], [*names, 1, TEXT], [*names, 0, "other"]]
        )
    outcome = cli(
        "two-afc", "--data", f"{NAME}.csv", "--distances", "l2", "l1", "--size", "16", "--name", "x"
    )
    assert outcome.code == 0, outcome.err
    assert_harmless(opened(tmp_path / "runs/two-afc/x/report.html", tmp_path), SHOWN)


def test_stylise(cli, picture, tmp_path):
    """A network that says it was trained on such a style."""
    picture(f"{NAME}.png", size=(32, 32))
    network = KIND.build(1, 0)
    params = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32),
        jax.eval_shape(network.init, jax.random.key(0))[0],
    )
    (tmp_path / "network").mkdir()
    saved = network_files.Saved(TEXT, {"width": 1, "blocks": 0}, params)
    network_files.write(tmp_path / "network", KIND, saved)
    outcome = cli("stylise", f"{NAME}.png", "--network", "network", "--name", "x")
    assert outcome.code == 0, outcome.err
    assert_harmless(opened(tmp_path / "runs/stylise/x/report.html", tmp_path), SHOWN)
    made = [file for file in (tmp_path / "runs/stylise/x").iterdir() if file.suffix == ".png"]
    assert len(made) == 1
    assert pj.images.read(made[0]).shape == (32, 32, 3)
