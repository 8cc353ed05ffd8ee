"""`perceptual-jax two-afc`: scores on data of every kind, resumed, on other devices."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import perceptual_jax as pj
from experiments.common import loop, pairs
from experiments.common.options import made
from experiments.common.triplets import STAND_IN, judgements
from experiments.two_afc import PRESETS, Config, run

MATERIALS = Path(os.environ.get("PERCEPTUAL_JAX_TEST_DATA", "nowhere")) / "materials"
TINY = Config(distances=("l2", "swd", "vgg16-random"), per_distortion=3, size=32)


@pytest.fixture
def bapps(tmp_path):
    """A root in the authors' layout: two splits of three triplets, and JND."""
    rng = np.random.default_rng(0)
    for split in ("cnn", "traditional"):
        for test, kinds, judged in (
            ("2afc", ("ref", "p0", "p1"), "judge"),
            ("jnd", ("p0", "p1"), "same"),
        ):
            top = tmp_path / "bapps" / test / "val" / split
            (top / judged).mkdir(parents=True)
            for number in range(3):
                reference = rng.random((40, 40, 3))
                for kind in kinds:
                    off = (
                        {"ref": 0, "p0": 0.05, "p1": 0.4}[kind]
                        if test == "2afc"
                        else 0.1 * number * (kind == "p1")
                    )
                    noisy = np.clip(reference + off * rng.normal(size=reference.shape), 0, 1)
                    (top / kind).mkdir(exist_ok=True)
                    pj.images.write(top / kind / f"{number:06d}.png", noisy)
                judgement = [0.2] if test == "2afc" else [1.0 - number / 2]
                np.save(top / judged / f"{number:06d}.npy", np.asarray(judgement, np.float32))
    return tmp_path / "bapps"


# --- Scores --------------------------------------------------------------------------------


def test_bapps_folders(cli, bapps, tmp_path):
    outcome = cli("two-afc", "--data", bapps, "--distances", "l2", "ssim", "--name", "a")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "runs" / "two-afc" / "a"
    results = json.loads((folder / "results.json").read_text())
    assert results["items"] == {"cnn": 3, "traditional": 3, "all": 6}
    assert results["human"]
    # Four of five people took the less noisy one, as l2 does.
    for part in ("cnn", "traditional", "all"):
        assert results["scores"]["l2"][part]["mean"] == pytest.approx(0.8, abs=1e-6)
        assert results["people"][part] == pytest.approx(0.8**2 + 0.2**2, abs=1e-6)
    rows = list(csv.reader((folder / "results.csv").read_text().splitlines()))
    assert rows[0] == ["distance", "cnn", "traditional", "all", "low", "high"]
    assert [row[0] for row in rows[1:]] == ["l2", "ssim", "people"]
    assert (folder / "results.md").read_text().count("\n") == 5
    assert (folder / "scores.png").stat().st_size > 5000
    assert "This is not human data" not in (folder / "report.html").read_text()


@pytest.mark.slow
def test_array_records(bapps, tmp_path):
    """Prepared and read in a process of its own, in which there is no TensorFlow."""
    script = f"""
import sys
import tensorflow_datasets as tfds
from experiments.common import bapps_tfds
from experiments.common.triplets import judgements
options = dict(subset="val", per_distortion=1, size=32, seed=0)
for test in ("2afc", "jnd"):
    builder = bapps_tfds.Bapps(config=test, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir={str(bapps)!r})
    )
    found = judgements("tfds:bapps/val", test, **options)
    wanted = judgements({str(bapps)!r}, test, **options)
    def row(data, number):
        pixels = (data.read(image).tobytes() for image in data.items[number])
        return data.splits[data.split[number]], data.judge[number].item(), *pixels
    def rows(data):
        return sorted(row(data, number) for number in range(len(data.items)))
    assert rows(found) == rows(wanted), test
try:
    judgements("tfds:bapps/train", "2afc", **options)
except ValueError as error:
    assert "tfds build" in str(error) and "5.3 GB" in str(error), error
else:
    raise SystemExit("read what was never prepared")
assert "tensorflow" not in sys.modules
print("read")
"""
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "tfds")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.endswith("read\n"), done.stderr


def test_one_split_alone(cli, bapps, tmp_path):
    path = bapps / "2afc" / "val" / "cnn"
    assert cli("two-afc", "--data", path, "--distances", "l2", "--name", "a").code == 0
    results = json.loads((tmp_path / "runs/two-afc/a/results.json").read_text())
    assert list(results["scores"]["l2"]) == ["cnn"]


def test_same_or_not(cli, bapps, tmp_path):
    outcome = cli("two-afc", "--test", "jnd", "--data", bapps, "--distances", "l2", "--name", "a")
    assert outcome.code == 0, outcome.err
    results = json.loads((tmp_path / "runs/two-afc/a/results.json").read_text())
    # Judgements 1, .5, 0 in the order of the distances: precision 1, then .75.
    assert results["scores"]["l2"]["cnn"]["mean"] == pytest.approx((1 + 0.5 * 0.75) / 1.5)
    assert results["people"] == {}


def test_one_judgement_says_nothing_of_others(cli, picture, tmp_path):
    for seed, name in enumerate("abc"):
        picture(f"{name}.png", seed=seed)
    (tmp_path / "list.csv").write_text("ref,p0,p1,judge\na.png,b.png,c.png,1\n")
    outcome = cli("two-afc", "--data", "list.csv", "--distances", "l2", "--name", "a")
    assert outcome.code == 0, outcome.err
    remark = "An interval of one judgement has no width"
    assert remark in outcome.out
    assert remark in (tmp_path / "runs/two-afc/a/report.html").read_text()


def test_the_score_is_its_definition(tmp_path):
    """Each distance called on each pair, averaged by hand."""
    scores = run(dataclasses.replace(TINY, out=str(tmp_path), name="a"))
    data = judgements("embedded", "2afc", subset="val", per_distortion=3, size=32, seed=0)
    images = [pj.images.resize(data.read(i), 32) for i in range(len(data.names))]
    for place, spec in enumerate(TINY.distances):
        distance = pj.make(spec)
        params = distance.init(jax.random.key(0))
        call = jax.jit(distance.__call__)
        agreed = []
        for (ref, p0, p1), judge in zip(data.items, data.judge, strict=True):
            d0, d1 = (float(call(params, images[ref][None], images[p][None])[0]) for p in (p0, p1))
            agreed.append(judge if d1 < d0 else 1 - judge)
        assert scores.scores["all"].mean[place] == pytest.approx(np.mean(agreed), abs=1e-12)
    assert scores.parts == (*STAND_IN, "all")
    assert scores.ceiling == {}
    assert (scores.differences.low <= scores.differences.high).all()


def test_many_metrics_on_few_images_embed_each_once(tmp_path, monkeypatch):
    """Thirty triplets over six images: six images embedded."""
    rng = np.random.default_rng(0)
    for name in range(6):
        pj.images.write(tmp_path / f"{name}.png", rng.random((32, 32, 3)))
    triplets = [rng.choice(6, 3, replace=False) for _ in range(30)]
    lines = [f"{r}.png,{a}.png,{b}.png,{rng.random():.2f},5" for r, a, b in triplets]
    (tmp_path / "m.csv").write_text("\n".join(["ref,p0,p1,judge,votes", *lines]))
    embedded = []
    of = pairs._Group.of

    def counting(group, at_once):
        made = of(group, at_once)

        def embed(params, images):
            embedded.append(len(images))
            return made.embed(params, images)

        return made._replace(embed=embed)

    monkeypatch.setattr(pairs._Group, "of", counting)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    config = Config(
        data=str(tmp_path / "m.csv"), distances=("l1", "l2"), by_votes=True,
        out=str(tmp_path), name="a",
    )  # fmt: skip
    run(config)
    assert embedded == [6, 6]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_scored(preset):
    config = PRESETS[preset]
    assert len(made(config.distances, config.size)) == len(config.distances)


# --- Wherever and however often ------------------------------------------------------------


@pytest.mark.parametrize("at_once", [(6, 2), (128, 64), (17, 5)])
def test_blocks_and_devices_change_nothing(tmp_path, monkeypatch, at_once):
    images_at_once, pairs_at_once = at_once
    wanted = run(dataclasses.replace(TINY, out=str(tmp_path), name="a"))
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    got = run(
        dataclasses.replace(
            TINY,
            images_at_once=images_at_once,
            pairs_at_once=pairs_at_once,
            out=str(tmp_path),
            name="b",
        )
    )
    a, b = (np.load(tmp_path / "two-afc" / n / "distances" / "distances.npy") for n in "ab")
    np.testing.assert_allclose(a, b, rtol=2e-5)
    assert (a > 0).all()
    for part in wanted.parts:
        np.testing.assert_array_equal(wanted.scores[part], got.scores[part])


def test_a_resumed_run_equals_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "_PART_IMAGES", 12)
    config = dataclasses.replace(TINY, out=str(tmp_path))
    wanted = run(dataclasses.replace(config, name="whole"))
    save, saved = pairs._save, []

    def stop_after_four(path, values):
        save(path, values)
        saved.append(path.name)
        if len(saved) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(pairs, "_save", stop_after_four)
    with pytest.raises(loop.Interrupted, match="--name broken --resume"):
        run(dataclasses.replace(config, name="broken"))
    kept = tmp_path / "two-afc" / "broken" / "distances"
    assert sorted(path.name for path in kept.iterdir()) == sorted(saved)
    monkeypatch.setattr(pairs, "_save", save)
    got = run(Config(out=str(tmp_path), name="broken", resume=True))
    for part in wanted.parts:
        np.testing.assert_array_equal(wanted.scores[part], got.scores[part])
    assert [path.name for path in kept.iterdir()] == ["distances.npy"]
    whole = tmp_path / "two-afc" / "whole" / "distances" / "distances.npy"
    np.testing.assert_array_equal(np.load(kept / "distances.npy"), np.load(whole))


# --- The stand-in --------------------------------------------------------------------------


def test_the_stand_in_says_that_it_is_no_human_data(cli, tmp_path):
    outcome = cli(
        "two-afc", "--distances", "l2", "--per-distortion", "4", "--size", "32", "--name", "a"
    )
    assert outcome.code == 0, outcome.err
    assert "not human data" in outcome.out
    report = (tmp_path / "runs/two-afc/a/report.html").read_text()
    assert "This is not human data" in report
    assert "nearer to the distance" in report
    assert not json.loads((tmp_path / "runs/two-afc/a/results.json").read_text())["human"]


def test_the_stronger_distortion_is_farther_in_most_triplets():
    data = judgements("embedded", "2afc", subset="val", per_distortion=20, size=64, seed=0)
    assert len(set(data.judge.tolist())) == 2
    errors = {name: [] for name in data.splits}
    for item, judge, split in zip(data.items, data.judge, data.split, strict=True):
        reference, p0, p1 = (data.read(index).astype(float) for index in item)
        off = [np.square(p - reference).mean() for p in (p0, p1)]
        errors[data.splits[split]].append((off[1] < off[0]) == (judge == 1))
    for name, right in errors.items():
        assert np.mean(right) >= 0.6, name


# --- Data that cannot be used --------------------------------------------------------------


def test_missing_files_are_all_named(cli, bapps):
    (bapps / "2afc/val/cnn/p1/000001.png").unlink()
    (bapps / "2afc/val/traditional/judge/000002.npy").unlink()
    outcome = cli("two-afc", "--data", bapps, "--distances", "l2")
    assert outcome.code == 2
    assert "p1/000001" in outcome.err
    assert "judge/000002.npy" in outcome.err
    assert "nothing was scored" in outcome.err
    assert not Path("runs").exists()


def test_where_the_data_comes_from(cli):
    outcome = cli("two-afc", "--data", "nowhere")
    assert outcome.code == 2
    assert "5.3 GB" in outcome.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "ref, p0, p1, judge"),
        ("ref,p0,p1,judge\n", "no lines but its header"),
        ("ref,p0,p1,judge\nx.png,x.png,x.png,1.5\n", "line 2: judge must be from 0 to 1"),
        ("ref;p0;p1;judge\n", "must be separated by commas, not by semicolons"),
        ("ref\tp0\tp1\tjudge\n", "must be separated by commas, not by tabs"),
        ("ref,p0,p1,judge,vote\n", "a column 'vote', which is nearly 'votes'"),
        ("ref,p0,p1,judge,splits\n", "a column 'splits', which is nearly 'split'"),
        ("head,close,far,judges\n", "a column 'judges', which is nearly 'judge'"),
        ("ref,p0,p1,judge\nx.png,x.png,x.png\n", "line 2: has 3 values, must have 4"),
        ("ref,p0,p1,judge\n\nx.png,x.png,x.png,1,2\n", "line 3: has 5 values, must have 4"),
        (
            "ref,p0,p1,judge,split\nx.png,x.png,x.png,1,all\nx.png,x.png,x.png,1,some\n",
            "a split 'all', as all of them together are called",
        ),
        (
            "ref,p0,p1,judge\nx.png,no.png,x.png,1\n",
            "no.png (line 2) is missing; nothing was scored: put what",
        ),
        ("ref,p0,p1,judge,votes\nx.png,x.png,x.png,1,-1\n", "votes must be from 1 to 1e+09"),
        ("ref,p0,p1,judge,votes\nx.png,x.png,x.png,1,0\n", "votes must be from 1 to 1e+09"),
    ],
)
def test_manifests_that_cannot_be_used(cli, picture, tmp_path, text, message):
    picture("x.png")
    (tmp_path / "m.csv").write_text(text)
    outcome = cli("two-afc", "--data", "m.csv", "--distances", "l2")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["../outside.png", "{}/outside.png", "link.png", "in/../../x"])
def test_a_manifest_names_no_images_outside_of_its_folder(cli, picture, tmp_path, name):
    """Neither by a path, nor by a link that came with it; where the list itself is, is all one."""
    picture("outside.png")
    picture("data/x.png")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "outside.png")
    path = tmp_path / "data" / "m.csv"
    path.write_text(f"ref,p0,p1,judge\nx.png,x.png,{name.format(tmp_path)},1\n")
    outcome = cli("two-afc", "--data", path, "--distances", "l2")
    assert outcome.code == 2
    assert "which is outside of its folder: move the list" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_manifest_may_link_inside_of_its_folder(cli, picture, tmp_path):
    """And be reached by a link, as data on another disk is."""
    picture("data/in/x.png", size=(20, 20))
    (tmp_path / "data" / "y.png").symlink_to("in/x.png")
    (tmp_path / "data" / "m.csv").write_text("ref,p0,p1,judge\nin/x.png,y.png,./in/../y.png,1\n")
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    outcome = cli("two-afc", "--data", "linked/m.csv", "--distances", "l2", "--size", "16")
    assert outcome.code == 0, outcome.err


def test_what_a_manifest_says_does_not_command_the_terminal(cli, tmp_path):
    (tmp_path / "m.csv").write_text("ref,p0,p1,judge\n\x1b[2J\x1b]0;owned\x07,a,b,1\n")
    outcome = cli("two-afc", "--data", "m.csv", "--distances", "l2")
    assert outcome.code == 2
    assert "\\x1b[2J" in outcome.err
    assert outcome.err.strip().isprintable()


def test_a_manifest_may_have_spaces_after_commas_and_columns_of_its_own(picture, tmp_path):
    """ "notes" is no votes, and "ref2" no misspelt "ref" where that is there."""
    for seed, name in enumerate("abc"):
        picture(f"{name}.png", seed=seed)
    (tmp_path / "m.csv").write_text(
        "ref, p0, p1, judge, split, notes, ref2\na.png, b.png, c.png, 0.25, one, dark, x\n"
    )
    found = judgements(str(tmp_path / "m.csv"), "2afc", subset="", per_distortion=1, size=8, seed=0)
    assert [Path(name).name for name in found.names] == ["a.png", "b.png", "c.png"]
    assert (found.judge[0], found.splits, found.votes) == (0.25, ("one",), None)


def test_head_close_far(cli, picture, tmp_path):
    for seed, name in enumerate("abc"):
        picture(f"{name}.png", seed=seed, size=(20, 30))
    (tmp_path / "m.csv").write_text("head,close,far\na.png,a.png,b.png\nb.png,c.png,b.png\n")
    outcome = cli("two-afc", "--data", "m.csv", "--distances", "l2", "--size", "16", "--name", "a")
    assert outcome.code == 0, outcome.err
    results = json.loads((tmp_path / "runs/two-afc/a/results.json").read_text())
    assert results["scores"]["l2"]["all"]["mean"] == 0.5
    assert results["images"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by-votes"], "--by-votes needs"),
        (["--size", "1"], "--size must be at least 2"),
        (["--distances", "l2", "l2"], "each once"),
        (["--distances", "ms-ssim"], "ms-ssim: images must be at least 161x161 pixels; got 64x64"),
        (["--subset", "test"], "--subset must be one of"),
    ],
)
def test_options_that_cannot_be_used(cli, options, message, tmp_path):
    outcome = cli("two-afc", "--per-distortion", "1", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "runs").exists()


# --- Published numbers ---------------------------------------------------------------------


@pytest.mark.skipif(not MATERIALS.exists(), reason="PERCEPTUAL_JAX_TEST_DATA holds no materials")
def test_pixel_distances_on_materials(tmp_path):
    scores = run(
        Config(
            data=str(MATERIALS / "triplets_test.csv"),
            distances=("l2", "l1"),
            out=str(tmp_path),
            name="a",
        )
    )
    found = scores.scores["triplets_test"]
    np.testing.assert_allclose(found.mean, [0.62896, 0.62081], atol=1e-4)
    assert scores.ceiling["triplets_test"] == pytest.approx(0.795, abs=5e-4)
