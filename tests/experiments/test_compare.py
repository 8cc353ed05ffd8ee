"""`perceptual-jax compare`: official values, folders by name, files written."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import perceptual_jax as pj
from experiments import compare

GOLDENS = np.load(Path(__file__).parent.parent / "goldens" / "pairs64.npz")


@pytest.fixture
def golden_folders(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        for i, image in enumerate(GOLDENS[name]):
            pj.images.write(tmp_path / name / f"{i}.png", image)
    return tmp_path / "x", tmp_path / "y"


def test_folders_give_the_official_values(cli, golden_folders, tmp_path):
    """Files on disk to numbers on disk: LPIPS v0.1 and v0.0 as the official implementation."""
    distances = ["lpips-alex", "lpips-alex(version='0.0')", "l2"]
    mixture = "l2 + 0.5 * lpips-alex"
    outcome = cli(
        "compare", *golden_folders, "--distances", *distances, mixture, "--name", "all", "--map",
        "--csv", "values.csv", "--json", "values.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    values = json.loads((tmp_path / "values.json").read_text())
    for distance, golden in zip(
        distances, ("lpips_alex_v0.1", "lpips_alex_v0.0", "l2"), strict=True
    ):
        got = [values[str(i)][distance] for i in range(4)]
        np.testing.assert_allclose(got, GOLDENS[golden], rtol=2e-5)
    mixed = GOLDENS["l2"] + 0.5 * GOLDENS["lpips_alex_v0.1"]
    np.testing.assert_allclose([values[str(i)][mixture] for i in range(4)], mixed, rtol=2e-5)
    rows = list(csv.reader((tmp_path / "values.csv").read_text().splitlines()))
    assert rows[0] == ["pair", *distances, mixture]
    assert [row[0] for row in rows[1:]] == ["0", "1", "2", "3", "mean"]
    run = tmp_path / "runs" / "compare" / "all"
    assert (run / "report.html").exists()
    assert pj.images.read(run / "0-lpips-alex.png").std() > 10
    config = json.loads((run / "config.json").read_text())
    assert config["weights"]["alexnet"] == pj.weights.provenance("alexnet")._asdict()
    assert config["weights"]["alexnet"]["sha256"] == pj.weights.entry("alexnet").sha256


def test_a_pair_alone_is_called_as_any_other_is(cli, golden_folders, tmp_path):
    """So that two runs of one reference can be held side by side; maps say their scale."""
    truth, made = (folder / "0.png" for folder in golden_folders)
    outcome = cli("compare", truth, made, "--distances", "ssim", "--name", "one", "--map")
    assert outcome.code == 0, outcome.err
    assert "1 - SSIM: 0 for equal images" in outcome.out
    run = tmp_path / "runs" / "compare" / "one"
    np.testing.assert_array_equal(pj.images.read(run / "b.png"), pj.images.read(made))
    with Image.open(run / "ssim.png") as drawn:
        said = drawn.info["Description"]
    most = float(re.search(r"black is 0, bright yellow (.*)\.$", said)[1])
    where = pj.make("ssim").map({}, *(pj.images.read(path)[None] for path in (truth, made)))
    assert most == pytest.approx(compare.brightest(np.asarray(where[0])), rel=0.01)
    assert "How it was made" in (run / "report.html").read_text()


def test_help_shows_what_must_be_given(cli):
    lines = cli("compare", "--help").out.splitlines()
    assert lines[0].endswith(" A B")
    shown = [line.strip(" │") for line in lines]
    assert any(re.fullmatch(r"A +An image, or a folder of images\.", line) for line in shown)
    assert any(re.match(r"B +An image, or a folder of images of the same", line) for line in shown)
    assert "default: ''" not in " ".join(lines)


def test_images_without_a_partner_are_named(cli, golden_folders):
    (golden_folders[1] / "3.png").rename(golden_folders[1] / "other.png")
    outcome = cli("compare", *golden_folders, "--distances", "l1")
    assert outcome.code == 2
    assert "3 (only in" in outcome.err
    assert "other (only in" in outcome.err
    assert "take them out, or give both folders the same names" in outcome.err


def test_a_pair_may_be_called_mean_and_hold_markup(cli, picture, tmp_path):
    for seed, name in enumerate(("mean.png", "x [bold].png")):
        picture(f"a/{name}", seed=seed)
        picture(f"b/{name}", seed=seed + 5)
    outcome = cli("compare", "a", "b", "--distances", "l1", "--csv", "v.csv", "--out", "o[/x]")
    assert outcome.code == 0, outcome.err
    assert "x [bold]" in outcome.out
    rows = list(csv.reader((tmp_path / "v.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["pair", "mean", "x [bold]", "mean"]


def test_a_name_does_not_command_the_terminal(cli, picture):
    """An escape code in a file's name is shown as what it is; so is a name that is no text."""
    for folder, seed in (("a", 0), ("b", 1)):
        picture(f"{folder}/\x1b]0;owned\x07.png", seed=seed, size=(8, 8))
        picture(f"{folder}/\udcff.png", seed=seed, size=(8, 8))
    outcome = cli("compare", "a", "b", "--distances", "l2")
    assert outcome.code == 0, outcome.err
    assert "\\x1b]0;owned\\x07" in outcome.out
    assert "\\udcff" in outcome.out
    assert outcome.out.replace("\n", "").isprintable()


def test_a_failed_comparison_keeps_the_folders_that_were_there(cli, picture, tmp_path):
    picture("a.png")
    picture("b.png", size=(48, 48))
    (tmp_path / "mine").mkdir()
    assert cli("compare", "a.png", "b.png", "--out", "mine").code == 2
    assert not list((tmp_path / "mine").iterdir())


def test_sides_may_be_cropped_to_multiples(cli, picture, tmp_path):
    """About the centre, and what is too small is named."""
    from PIL import Image

    for seed, name in enumerate(("a.png", "b.png")):
        whole = Image.open(picture(name, size=(70, 45), seed=seed))
        whole.crop((6, 3, 38, 67)).save(tmp_path / f"cropped-{name}")
    values = []
    for prefix, options in (("", ("--multiple", "32")), ("cropped-", ())):
        pair = (f"{prefix}a.png", f"{prefix}b.png")
        outcome = cli("compare", *pair, "--distances", "l1", "--json", "v.json", *options)
        assert outcome.code == 0, outcome.err
        values += json.loads((tmp_path / "v.json").read_text()).values()
    assert values[0] == values[1]
    outcome = cli("compare", "a.png", "b.png", "--multiple", "64")
    assert outcome.code == 2
    assert "a.png is 45x70: smaller than --multiple 64" in outcome.err
    assert "--multiple must be" in cli("compare", "a.png", "b.png", "--multiple", "0").err


def test_many_sizes_bring_a_hint(cli, picture):
    for index in range(8):
        for folder in "ab":
            picture(f"{folder}/{index}.png", size=(40 + index, 40))
    outcome = cli("compare", "a", "b", "--distances", "l1")
    assert outcome.code == 0, outcome.err
    assert "--multiple 64" in outcome.out
    assert "--multiple 64" not in cli("compare", "a", "b", "--multiple", "8").out


def test_a_grey_picture_beside_one_in_colour_is_remarked(cli, picture, tmp_path):
    picture("a.png")
    pj.images.write(
        tmp_path / "grey.png", np.tile(np.linspace(0, 1, 64), (64, 1))[..., None] * np.ones(3)
    )
    remark = "One is grey and the other is not, which distances count too: a / grey"
    assert remark in cli("compare", "a.png", "grey.png", "--distances", "l1").out
    for given in ("a.png", "grey.png"):
        assert "grey and" not in cli("compare", given, given, "--distances", "l1").out


def test_endings_may_differ(cli, picture):
    picture("a/one.png")
    picture("b/one.jpg")
    outcome = cli("compare", "a", "b", "--distances", "l1")
    assert outcome.code == 0, outcome.err


def test_a_run_never_overwrites_another(cli, picture):
    a, b = picture("a.png"), picture("b.png", seed=1)
    assert cli("compare", a, b, "--distances", "l1", "--name", "one").code == 0
    outcome = cli("compare", a, b, "--distances", "l1", "--name", "one")
    assert outcome.code == 2
    assert "choose another --name" in outcome.err


def test_a_folder_that_fails_half_way_leaves_no_run(cli, golden_folders, tmp_path):
    (golden_folders[0] / "2.png").write_bytes(b"broken")
    outcome = cli("compare", *golden_folders, "--distances", "l1")
    assert outcome.code == 2
    assert not (tmp_path / "runs").exists()


def test_transparent_images_need_a_background(cli, tmp_path):
    from PIL import Image

    Image.new("RGBA", (32, 32), (255, 0, 0, 100)).save(tmp_path / "clear.png")
    arguments = ("compare", "clear.png", "clear.png", "--distances", "l2")
    outcome = cli(*arguments)
    assert "transparent" in outcome.err
    assert "--background 255 255 255" in outcome.err
    assert cli(*arguments, "--background", "255", "255", "255").code == 0


def test_one_pixel_neither_darkens_a_map_nor_vanishes():
    even, alone, faint = np.full((40, 40), 0.5), np.zeros((40, 40)), np.full((40, 40), 1e-3)
    even[3, 3], alone[3, 3], faint[3, 3] = 10, 1, 1.5
    black = compare.heat(np.zeros((40, 40)))[0, 0].max()
    assert compare.heat(even)[20, 20].max() > 200
    assert compare.heat(alone)[3, 3].max() > 200
    assert compare.heat(alone)[20, 20].max() == black
    assert compare.heat(faint)[20, 20].max() < black + 10


def test_values_stand_before_pictures(golden_folders, tmp_path):
    a, b = map(str, golden_folders)
    compare.run(compare.Config(a, b, distances=("l2",), out=str(tmp_path), name="page"))
    page = (tmp_path / "compare" / "page" / "report.html").read_text()
    assert page.index("<table>") < page.index("<img")
