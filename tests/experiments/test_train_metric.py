"""`perceptual-jax train-metric`: what learns, killed, resumed, on any devices, used elsewhere."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments import train_metric
from experiments.common import loop
from experiments.common.run_folder import RunFolder
from experiments.common.triplets import judgements, read_resized
from experiments.train_metric import Config, heads, method, networks, run
from experiments.train_metric.method import Features
from experiments.train_metric.networks import Triplets
from perceptual_jax.distances.learned import read_learned

RANDOM = "alexnet-random(layers=('relu1', 'relu2'), metric='cosine')"
TRAINED = "alexnet(layers=('relu1', 'relu2'), metric='cosine')"
TINY = Config(
    trunk=RANDOM,
    size=32,
    per_distortion=10,
    held_out=0.3,
    epochs=3,
    batch=8,
    learning_rate=0.01,
    trunk_learning_rate=1e-3,
)
TUNE = dataclasses.replace(TINY, mode="tune")


@pytest.fixture(autouse=True)
def one_device(monkeypatch, request):
    """Programs for eight would be compiled for nothing, but where a test is about them."""
    if "eight_devices" in request.fixturenames:
        return
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.fixture
def eight_devices():
    assert jax.device_count() == 8


def stand_in(config):
    return judgements(
        "embedded",
        "2afc",
        subset="train",
        per_distortion=config.per_distortion,
        size=config.size,
        seed=config.seed,
    )


def whole_images(config):
    """What learns with its network, its starting params, and the stand-in's 60 triplets."""
    trunk, data = pj.make(config.trunk), stand_in(config)
    params = networks.starting_params(config, trunk)
    steps = len(data.items) // config.batch
    learner = networks.learner(config, trunk, params, images=len(data.names), steps=steps)
    return learner, params, Triplets.of(data, config.size)


def one_epoch(learner, part, key):
    """The states of every step of an epoch."""
    state = method._first(learner, key)
    return [state for state, _ in learner.epoch(state, part, key, 0)]


# --- What is learned -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["lin", "tune", "scratch"])
def test_the_learned_distance_scores_what_training_said(cli, tmp_path, mode):
    outcome = cli(
        "train-metric", "--mode", mode, "--trunk", TRAINED, "--size", "32", "--held-out", "0.3",
        "--per-distortion", "10", "--epochs", "2", "--batch", "8", "--name", "a",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "runs" / "train-metric" / "a"
    results = json.loads((folder / "results.json").read_text())
    assert not results["human"]
    assert "not human data" in (folder / "report.html").read_text()
    file = str(folder / "metric.safetensors")
    assert (read_learned(file).params is None) == (mode == "lin")
    distance = pj.make(file)
    params = distance.init(jax.random.key(0))
    data = stand_in(TINY)
    held = np.random.default_rng(0).permutation(60)[:18]
    call = jax.jit(distance.__call__)
    agreed = []
    for item, judge in zip(data.items[held], data.judge[held], strict=True):
        reference, *both = (read_resized(data, 32, i)[None] for i in item.tolist())
        d0, d1 = (float(call(params, reference, image)[0]) for image in both)
        agreed.append(judge if d1 < d0 else 1 - judge)
    assert results["trained"]["mean"] == pytest.approx(np.mean(agreed), abs=1e-9)
    assert f"{results['known_images']} of the {results['images']} images" in outcome.out


def test_heads_find_the_channel_that_people_go_by(tmp_path):
    """Of twenty, one decides; the others are noise of the same size."""
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 2000, 20), np.float32)
    judge = (second[:, 3] < first[:, 3]).astype(np.float32)
    features = Features(first, second, judge)
    config = Config(epochs=20, patience=20, learning_rate=0.01, dropout=0.2)
    learning, held_out = features.at(np.arange(1500)), features.at(np.arange(1500, 2000))
    learner = heads.learner(config, 20, 30)
    folder = RunFolder(tmp_path, "train-metric")
    scored = {"learned_from": learning, "held_out": held_out}
    state, epochs = method.train(config, learner, learning, scored, folder, lambda: False)
    assert (state.best["heads"] >= 0).all()
    assert state.best["heads"].argmax() == 3
    assert features.agreement(np.ones(20)).mean() < 0.65
    assert max(line["held_out"] for line in epochs) > 0.9
    assert epochs[-1]["loss"] < epochs[0]["loss"] / 2


def test_a_network_learns_what_heads_cannot(weights_store):
    """The loss falls below that of training the heads and the ranking alone, over 10 epochs."""
    last = {}
    for rate in (1e-3, 1e-12):
        config = dataclasses.replace(TUNE, trunk=TRAINED, epochs=10, trunk_learning_rate=rate)
        learner, params, triplets = whole_images(config)
        key = jax.random.key(0)
        state = method._first(learner, key)
        for epoch in range(10):
            state = state._replace(loss=jnp.zeros_like(state.loss))
            key = jax.random.fold_in(key, epoch)
            *_, (state, _) = learner.epoch(state, triplets, key, 0)
        moved = jax.tree.map(
            lambda now, before: float(jnp.abs(now - before).max()),
            state.variables["trunk"]["alexnet"]["conv2"],
            params["alexnet"]["conv2"],
        )
        assert (min(moved.values()) > 1e-4) == (rate == 1e-3)
        last[rate] = float(state.loss)
    assert last[1e-3] < 0.8 * last[1e-12]


def test_a_step_is_that_of_every_image_embedded_alone(weights_store):
    """Images that triplets of a step share go through the network once; it changes nothing."""
    config = dataclasses.replace(TUNE, trunk=TRAINED)
    learner, params, triplets = whole_images(config)
    key = jax.random.key(5)
    variables, _ = learner.init(key)
    after = one_epoch(learner, triplets, key)[0]
    which = np.asarray(jax.random.permutation(key, 60))[:8]
    weighed = heads.squared_differences(pj.make(TRAINED))

    columns = triplets.items[which].T.tolist()
    images = [np.stack([triplets.read(index) for index in column]) for column in columns]

    @jax.value_and_grad
    def alone(variables):
        reference, *both = (weighed.embed(variables["trunk"], column) for column in images)
        first, second = (weighed.compare({}, reference, other) for other in both)
        batch = Features(first, second, triplets.judge[which])
        return method.loss(variables, batch, config.dropout, jax.random.fold_in(key, 0))

    value, gradient = jax.jit(alone)(variables)
    np.testing.assert_allclose(after.loss, value, rtol=1e-5)
    # Adam's first step has the gradient's sign, and the size of the learning rate.
    step = (
        after.variables["trunk"]["alexnet"]["conv2"]["kernel"]
        - params["alexnet"]["conv2"]["kernel"]
    )
    wanted = gradient["trunk"]["alexnet"]["conv2"]["kernel"]
    decided = jnp.abs(wanted) > 1e-5  # Far from rounding, and from Adam's own 1e-8.
    assert decided.mean() > 0.3
    np.testing.assert_allclose(step[decided], -1e-3 * jnp.sign(wanted)[decided], rtol=0.01)


def test_what_training_starts_from(weights_store):
    trunk = pj.make("lpips-alex")
    pretrained = trunk.init(jax.random.key(0))
    assert networks.trained_sets(trunk, pretrained) == ("alexnet",)
    tuned = networks.starting_params(TUNE, trunk)
    jax.tree.map(np.testing.assert_array_equal, tuned, pretrained)
    scratch = dataclasses.replace(TUNE, mode="scratch")
    drawn, again, other = (
        networks.starting_params(dataclasses.replace(scratch, seed=seed), trunk)
        for seed in (0, 0, 1)
    )
    assert jax.tree.structure(drawn) == jax.tree.structure(pretrained)
    jax.tree.map(np.testing.assert_array_equal, drawn, again)
    kernel = drawn["alexnet"]["conv2"]["kernel"]
    assert kernel.std() == pytest.approx((2 / (25 * 64)) ** 0.5, rel=0.02)
    assert abs(np.corrcoef(kernel.ravel(), other["alexnet"]["conv2"]["kernel"].ravel())[0, 1]) < 0.1
    jax.tree.map(np.testing.assert_array_equal, drawn["lpips-alex-v0.1"], tuned["lpips-alex-v0.1"])


def test_mirrored_steps_turn_all_images_or_none():
    """A step has the loss of one of the two; over an epoch, both are drawn."""
    plain, _, triplets = whole_images(TUNE)
    mirrored, _, _ = whole_images(dataclasses.replace(TUNE, mirror=True))
    turned = triplets._replace(read=lambda index: triplets.read(index)[:, ::-1])
    key = jax.random.key(0)

    def first_loss(learner, part, key):
        state = method._first(learner, jax.random.key(1))
        steps = learner.epoch(state, part, key, 0)
        loss = float(next(steps)[0].loss)
        steps.close()
        return loss

    drawn = set()
    for number in range(8):
        key = jax.random.key(number)
        got = first_loss(mirrored, triplets, key)
        wanted = [first_loss(plain, part, key) for part in (triplets, turned)]
        assert wanted[0] != pytest.approx(wanted[1], rel=1e-6)
        drawn.add(wanted.index(min(wanted, key=lambda loss: abs(loss - got))))
        assert min(abs(loss - got) for loss in wanted) < 1e-6
    assert drawn == {0, 1}


# --- Stopped, resumed, on other devices ----------------------------------------------------


def stopped_after(monkeypatch, module, name, calls):
    """Sends SIGTERM when a function has been called so often."""
    before, made = getattr(module, name), []

    def counted(*arguments):
        made.append(None)
        if len(made) == calls:
            os.kill(os.getpid(), signal.SIGTERM)
        return before(*arguments)

    monkeypatch.setattr(module, name, counted)


@pytest.mark.parametrize(
    ("config", "module", "name", "calls"),
    [
        (TINY, method.checkpoint, "save", 2),
        # In the middle of the second epoch of five steps: 3 + 3 batches score what it starts from
        # and each epoch, and 3 the sample learned from.
        (TUNE, networks, "_batch", 3 + 5 + 6 + 2),
    ],
    ids=["lin", "tune"],
)
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, monkeypatch, config, module, name, calls):
    config = dataclasses.replace(config, out=str(tmp_path))
    wanted = run(dataclasses.replace(config, name="whole"))
    with monkeypatch.context() as patch:
        stopped_after(patch, module, name, calls)
        with pytest.raises(loop.Interrupted, match=r"in epoch [23]; .* --name broken --resume"):
            run(dataclasses.replace(config, name="broken"))
    got = run(Config(out=str(tmp_path), name="broken", resume=True))
    assert got.epochs == wanted.epochs
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    for leaf in jax.tree.leaves(wanted.trunk):
        assert np.isfinite(leaf).all()


def test_eight_devices_learn_what_one_learns(eight_devices, monkeypatch):
    """A triplet to each, or the whole batch on one."""
    config = dataclasses.replace(TUNE, epochs=1)
    many, _, triplets = whole_images(config)
    losses = [float(state.loss) for state in one_epoch(many, triplets, jax.random.key(0))]
    variables, _ = many.init(jax.random.key(0))
    agreed = np.concatenate(list(many.agreement(variables, triplets)))
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    one, _, _ = whole_images(config)
    variables, _ = one.init(jax.random.key(0))
    alone = [float(state.loss) for state in one_epoch(one, triplets, jax.random.key(0))]
    # The sums of an epoch's losses so far; Adam makes of rounding up to this in five steps.
    np.testing.assert_allclose(losses, alone, rtol=1e-4)
    np.testing.assert_array_equal(agreed, np.concatenate(list(one.agreement(variables, triplets))))


@pytest.mark.parametrize("seed", range(3))
def test_it_stops_when_nothing_is_gained(tmp_path, seed):
    """Also where every epoch scores the same: a float32 of it may be less."""
    rng = np.random.default_rng(seed)
    features = Features(*rng.random((2, 200, 5), np.float32), rng.random(200, np.float32))
    config = Config(epochs=50, patience=2, learning_rate=1e-12)
    folder = RunFolder(tmp_path, "train-metric")
    learner = heads.learner(config, 5, 4)
    state, epochs = method.train(
        config, learner, features, {"held_out": features}, folder, lambda: False
    )
    assert len(epochs) == 2
    assert state.best_epoch == 0
    np.testing.assert_array_equal(state.best["heads"], 1)


def test_what_is_not_finite_stops_training(tmp_path):
    rng = np.random.default_rng(0)
    features = Features(*rng.random((2, 200, 5), np.float32), rng.random(200, np.float32))
    wrong = features._replace(first=np.where(features.first > 0.9, np.inf, features.first))
    folder = RunFolder(tmp_path, "train-metric")
    with pytest.raises(pj.InputError, match="finite numbers in epoch 1: try a smaller"):
        method.train(
            Config(),
            heads.learner(Config(), 5, 4),
            wrong,
            {"held_out": features},
            folder,
            lambda: False,
        )
    assert not (tmp_path / "checkpoints").exists()


# --- What is said --------------------------------------------------------------------------


def test_images_that_were_learned_from_are_counted(tmp_path, picture):
    for number in range(8):
        picture(f"{number}.png", seed=number, size=(32, 32))
    manifests = {"train": ["0,1,2,1", "3,1,2,0"], "test": ["4,1,2,1", "0,5,6,1"]}
    for name, rows in manifests.items():
        lines = ["ref,p0,p1,judge"]
        for row in rows:
            *images, judge = row.split(",")
            lines.append(",".join([*(f"{image}.png" for image in images), judge]))
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    train, test = (
        judgements(
            str(tmp_path / f"{name}.csv"), "2afc", subset="", per_distortion=1, size=32, seed=0
        )
        for name in manifests
    )
    # Of 0, 1, 2, 4, 5 and 6, the first three: the second triplet, with 3, was held out.
    which = {"learned_from": np.array([0]), "held_out": np.array([1])}
    assert train_metric._images(train, test, **which) == (6, 3)
    assert train_metric._images(train, None, **which) == (3, 2)
    assert train_metric._images(train, stand_in(TINY), **which)[1] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trunk", "l2"], "maps of features"),
        (["--trunk", "vgg16-random(metric='gram')"], "maps of features"),
        (["--trunk", "gabor", "--mode", "tune"], "gabor has no network to train: take --mode lin"),
        (["--trunk", "mmd-rff", "--mode", "scratch"], "mmd-rff has no network to train"),
        (["--mode", "finetune"], "lin"),
        (["--batch", "5000"], "too few for batches of 5000"),
        (["--held-out", "0"], "too few"),
        (["--dropout", "1"], "--dropout must be"),
        (["--learning-rate", "0"], "--learning-rate must be"),
        (["--trunk-learning-rate", "nan"], "--trunk-learning-rate must be"),
        (["--save-every", "0"], "--save-every must be at least 1"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--test", "nowhere.csv"], "there is no nowhere.csv"),
    ],
)
def test_options_that_cannot_be_used(cli, options, message, tmp_path):
    given = dict(zip(options[::2], options[1::2], strict=True))
    arguments = {"--trunk": RANDOM, "--per-distortion": "10", **given}
    outcome = cli("train-metric", *(part for pair in arguments.items() for part in pair))
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "runs").exists()
