"""`perceptual-jax train-metric`: heads that learn, killed, resumed, and used elsewhere."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest

import perceptual_jax as pj
from experiments import train_metric
from experiments.common import loop
from experiments.common.triplets import judgements, read_resized
from experiments.train_metric import Config, Features, run

TRUNK = "alexnet-random(metric='cosine', layers=('relu1', 'relu2'))"
TINY = Config(
    trunk=TRUNK, size=32, per_distortion=10, held_out=0.3, epochs=3, batch=7, learning_rate=0.01
)


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Programs for eight would be compiled for nothing; `test_two_afc` has them."""
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(jax, "device_count", lambda: 1)


def test_the_learned_distance_scores_what_training_said(cli, tmp_path):
    outcome = cli(
        "train-metric", "--trunk", TRUNK, "--size", "32", "--per-distortion", "10",
        "--held-out", "0.3", "--epochs", "3", "--batch", "7", "--name", "a",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "runs" / "train-metric" / "a"
    results = json.loads((folder / "results.json").read_text())
    assert not results["human"]
    assert "not human data" in (folder / "report.html").read_text()
    distance = pj.make(str(folder / "metric.safetensors"))
    params = distance.init(jax.random.key(0))
    data = judgements("embedded", "2afc", subset="train", per_distortion=10, size=32, seed=0)
    held = np.random.default_rng(0).permutation(60)[:18]
    call = jax.jit(distance.__call__)
    agreed = []
    for item, judge in zip(data.items[held], data.judge[held], strict=True):
        reference, *both = (read_resized(data, 32, i)[None] for i in item.tolist())
        d0, d1 = (float(call(params, reference, image)[0]) for image in both)
        agreed.append(judge if d1 < d0 else 1 - judge)
    assert results["trained"]["mean"] == pytest.approx(np.mean(agreed), abs=1e-9)


def test_it_finds_the_channel_that_people_go_by(tmp_path):
    """Of twenty, one decides; the others are noise of the same size."""
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 2000, 20), np.float32)
    judge = (second[:, 3] < first[:, 3]).astype(np.float32)
    features = Features(first, second, judge)
    config = Config(epochs=20, patience=20, learning_rate=0.01, dropout=0.2)
    folder = train_metric.RunFolder(tmp_path, "train-metric")
    heads, epochs = train_metric.train(
        config,
        features.at(np.arange(1500)),
        features.at(np.arange(1500, 2000)),
        folder,
        lambda: False,
    )
    assert (heads >= 0).all()
    assert heads.argmax() == 3
    untrained = features.agreement(np.ones(20)).mean()
    assert untrained < 0.65
    assert max(line["held_out"] for line in epochs) > 0.9


def test_a_resumed_run_equals_an_unbroken_one(tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, out=str(tmp_path))
    wanted = run(dataclasses.replace(config, name="whole"))
    save, saved = train_metric.checkpoint.save, []

    def stop_after_two(folder, step, state):
        save(folder, step, state)
        saved.append(step)
        if len(saved) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train_metric.checkpoint, "save", stop_after_two)
    with pytest.raises(loop.Interrupted, match="--name broken --resume"):
        run(dataclasses.replace(config, name="broken"))
    monkeypatch.setattr(train_metric.checkpoint, "save", save)
    got = run(Config(out=str(tmp_path), name="broken", resume=True))
    np.testing.assert_array_equal(got.heads, wanted.heads)
    assert got.epochs == wanted.epochs
    np.testing.assert_array_equal(got.gain, wanted.gain)


def test_it_stops_when_nothing_is_gained(tmp_path):
    rng = np.random.default_rng(0)
    features = Features(*rng.random((2, 200, 5), np.float32), rng.random(200, np.float32))
    config = Config(epochs=50, patience=2, learning_rate=1e-12)
    folder = train_metric.RunFolder(tmp_path, "train-metric")
    heads, epochs = train_metric.train(config, features, features, folder, lambda: False)
    assert len(epochs) <= 4
    np.testing.assert_allclose(heads, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trunk", "l2"], "maps of features"),
        (["--trunk", "vgg16-random(metric='gram')"], "maps of features"),
        (["--batch", "5000"], "too few for batches of 5000"),
        (["--held-out", "0"], "too few"),
        (["--dropout", "1"], "--dropout must be"),
        (["--learning-rate", "0"], "--learning-rate must be"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--test", "nowhere.csv"], "there is no nowhere.csv"),
    ],
)
def test_options_that_cannot_be_used(cli, options, message, tmp_path):
    arguments = {"--trunk": TRUNK, "--per-distortion": "10", **dict([options])}
    outcome = cli("train-metric", *(part for pair in arguments.items() for part in pair))
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "runs").exists()
