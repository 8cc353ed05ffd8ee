"""Training of generators: codes row by row, devices, parts of batches, stopping and going on."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perceptual_jax as pj
from experiments import autoencoder, glo
from experiments.common import loop, training
from experiments.common.code_table import code_table, move
from experiments.common.generators import Generator, network
from experiments.common.learned import learned_and_held_out
from experiments.common.run_folder import start
from experiments.common.training import Codes, Method, Schedule, batch_rows, train

SIZE, CODE, WIDTH = 16, 6, 1 / 16
IMAGES = np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), dtype=np.uint8)
SCHEDULE = Schedule(epochs=3, batch=8, snapshot_every=2)

RANDOM = pj.make("swd(patch_size=3, num_projections=8)").name
"""A distance that draws random numbers, which are not trained."""

TINY = {"images": 40, "held_out": 0.3, "size": 16, "code": 6, "width": 1 / 16, "batch": 8}
FAST = {"distances": ("l2",), "measures": ("l2",), "epochs": 2, "snapshot_every": 2, "warm_up": 0}
SETS = {"neighbours": ("l2",), "feature_weights": "random", "samples": 9}


pytestmark = pytest.mark.usefixtures("one_device")


# --- The codes -----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5])
def test_rows_that_are_moved_take_steps_of_adam_and_others_stay(steps):
    rng = np.random.default_rng(1)
    table = code_table(jax.random.key(0), 7, 4, deviation=0.01, multiple=4)
    assert table.codes.shape == (8, 4)
    first = np.asarray(table.codes)
    optimiser = optax.adam(0.01, b1=0.5, b2=0.999)
    alone = {row: (table.codes[row], optimiser.init(table.codes[row])) for row in range(7)}
    for step in range(steps):
        rows = np.array([[0, 3, 5], [3, 1, 6]][step % 2])
        gradient = rng.standard_normal((3, 4)).astype(np.float32)
        table = move(table, rows, jnp.asarray(gradient), 0.01)
        for row, slope in zip(rows.tolist(), gradient, strict=True):
            code, state = alone[row]
            updates, state = optimiser.update(jnp.asarray(slope), state)
            alone[row] = (optax.apply_updates(code, updates), state)
    for row in range(7):
        np.testing.assert_allclose(table.codes[row], alone[row][0], atol=1e-6)
    untouched = [2, 4, 7]
    np.testing.assert_array_equal(table.codes[jnp.array(untouched)], first[untouched])
    assert not np.asarray(table.moved)[untouched].any()


def test_unit_norm_codes_stay_on_the_sphere():
    table = code_table(jax.random.key(0), 4, 5, deviation=0.01, multiple=4, unit_norm=True)
    table = move(table, np.array([1, 2]), jnp.ones((2, 5)), 0.3, unit_norm=True)
    np.testing.assert_allclose(jnp.linalg.norm(table.codes, axis=1), 1, rtol=1e-6)


# --- Batches and pictures ------------------------------------------------------------------


def test_every_epoch_sees_every_image_once_in_another_order():
    schedule = Schedule(epochs=2, batch=5, snapshot_every=1, seed=3)
    rows = [batch_rows(20, schedule, step) for step in range(8)]
    first, second = np.concatenate(rows[:4]), np.concatenate(rows[4:])
    assert sorted(first) == sorted(second) == list(range(20))
    assert (first != second).any()
    np.testing.assert_array_equal(rows[6], batch_rows(20, schedule, 6))


def test_what_fills_no_batch_is_seen_as_often_as_the_rest():
    """31 images, 16 a step, 20 times: 39 steps, in none of which an image comes twice."""
    schedule = Schedule(epochs=20, batch=16, snapshot_every=1)
    assert schedule.steps(31) == 39
    rows = [batch_rows(31, schedule, step) for step in range(39)]
    assert all(len(set(each)) == 16 for each in rows)
    seen = np.bincount(np.concatenate(rows), minlength=31)
    assert seen.min() > 10
    assert abs(seen.mean() - 20) < 0.5


def test_the_names_decide_what_is_held_out(tmp_path, picture):
    for i in range(12):
        picture(f"data/{i}.png", seed=i, size=(20, 30))
    options = {"size": 16, "count": 100, "held_out": 0.4, "seed": 0}
    learned, held = learned_and_held_out(str(tmp_path / "data"), **options)
    assert sorted([*learned.names, *held.names]) == sorted(f"{i}.png" for i in range(12))
    assert learned.images.dtype == np.uint8
    assert learned.images.shape == (len(learned.names), 16, 16, 3)
    for i in range(12, 20):
        picture(f"data/{i}.png", seed=i, size=(20, 30))
    more, more_held = learned_and_held_out(str(tmp_path / "data"), **options)
    assert set(learned.names) < set(more.names)
    assert set(held.names) <= set(more_held.names)


def test_embedded_views_are_many_and_differ():
    learned, held = learned_and_held_out("embedded", size=16, count=23, held_out=0.3, seed=0)
    images = np.concatenate([learned.images, held.images])
    assert len(images) == 23
    assert len(np.unique(images.reshape(23, -1), axis=0)) == 23
    assert len({name.split()[0] for name in [*learned.names, *held.names]}) == 5


# --- The step ------------------------------------------------------------------------------


def glo_method(distance="l2", alternate=False, dtype=None, **options):
    return Method(
        network(Generator(SIZE, WIDTH, dtype), (2, CODE)),
        pj.make(distance),
        # By the slope itself: Adam's first steps are its sign, which rounding decides near 0.
        optax.sgd(0.1),
        codes=Codes(lambda step: 0.01 + 0 * step, alternate=alternate),
        **options,
    )


def new_table(key):
    return code_table(key, len(IMAGES), CODE, deviation=0.01, multiple=SCHEDULE.batch)


@dataclasses.dataclass(frozen=True)
class Place:
    out: str
    name: str = "a"
    resume: bool = False


def trained(tmp_path, method, name="a", table=new_table, schedule=SCHEDULE):
    folder = start("glo", Place(str(tmp_path), name))
    return train(
        method,
        IMAGES,
        schedule,
        key=jax.random.key(0),
        label={"distance": method.distance.name},
        folder=folder,
        asked_to_stop=lambda: False,
        table=table,
    )


def close(first, second, atol=1e-4):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=1e-3)


def test_one_device_equals_many(tmp_path, monkeypatch, many_devices):
    """Codes and batches spread over eight: the batch's statistics are those of all its images."""
    assert jax.device_count() == 8
    many = trained(tmp_path, glo_method(), "many")
    one = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1],
                        axis_types=(jax.sharding.AxisType.Auto,))  # fmt: skip
    monkeypatch.setattr(training, "data_mesh", lambda count, **_: one)
    alone = trained(tmp_path, glo_method(), "one")
    close(many.state.params, alone.state.params)
    close(many.state.running, alone.state.running)
    assert [line["loss"] for line in many.metrics] == pytest.approx(
        [line["loss"] for line in alone.metrics], rel=1e-4
    )


def test_the_table_is_spread_and_the_network_copied(many_devices):
    method = glo_method()
    placement = training._Placement.of(SCHEDULE.batch)
    begun = training._first_state(method, jax.random.key(0), new_table)
    state = training.State(*map(jax.device_put, begun, placement.state))
    rows = batch_rows(len(IMAGES), SCHEDULE, 0)[None]
    before = np.asarray(state.table.codes)
    batch = jax.device_put((rows, IMAGES[rows]), placement.batches)
    state, (losses, _) = training._advance(method, placement)({}, state, *batch)
    assert losses.shape == (1,)
    assert len(state.table.codes.addressable_shards) == 8
    assert state.table.codes.addressable_shards[0].data.shape == (3, CODE)
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))
    moved = (np.asarray(state.table.codes) != before).any(axis=1)
    assert set(np.flatnonzero(moved)) == set(rows[0].tolist())


def test_in_bfloat16_the_losses_are_nearly_those_of_float32(tmp_path):
    """They differ by .0033 of themselves at most, while they fall by .05."""
    schedule = SCHEDULE._replace(epochs=6)
    found = {}
    for dtype in ("bfloat16", "float32"):
        method = glo_method(dtype=dtype)._replace(optimiser=optax.adam(0.01, b1=0.5))
        state, metrics = trained(tmp_path, method, dtype, schedule=schedule)
        floats = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype.kind != "i"]
        assert {leaf.dtype.name for leaf in floats} == {"float32"}
        found[dtype] = [line["loss"] for line in metrics]
    assert found["bfloat16"] != found["float32"]
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.01)


def test_chunks_of_steps_change_nothing(tmp_path, monkeypatch):
    """Steps inside `lax.scan`, as on accelerators, equal steps one by one."""
    one = trained(tmp_path, glo_method(), "one")
    monkeypatch.setattr(training, "chunk_length", lambda: 2)
    close(one.state.params, trained(tmp_path, glo_method(), "two").state.params)


def test_parts_of_a_batch_add_up(tmp_path):
    """A linear network normalises nothing: two parts of a batch then give the whole one's step."""

    def init(key):
        return {"kernel": jax.random.normal(key, (CODE, SIZE * SIZE * 3))}, {}

    def apply(params, running, codes):
        return jax.nn.sigmoid(codes @ params["kernel"]).reshape(-1, SIZE, SIZE, 3), running

    linear = glo_method()._replace(network=training.Network(init, apply, None))
    whole = trained(tmp_path, linear, "whole")
    parts = trained(tmp_path, linear._replace(microbatches=2), "parts")
    close(whole.state.params, parts.state.params)
    close(whole.state.table.square, parts.state.table.square)


def test_parts_of_a_batch_train_the_published_networks(tmp_path):
    found = trained(tmp_path, glo_method(microbatches=2))
    assert found.metrics[-1]["loss"] < found.metrics[0]["loss"]


def test_alternating_moves_the_generator_at_the_new_codes(tmp_path):
    """One step by hand: the codes first, then the generator by its gradient there."""
    method = glo_method(alternate=True)
    schedule = SCHEDULE._replace(epochs=1, batch=20)
    found = trained(tmp_path, method, table=lambda key: code_table(
        key, 20, CODE, deviation=0.01, multiple=20), schedule=schedule)  # fmt: skip
    key = jax.random.fold_in(jax.random.key(0), 1)
    params, running = method.network.init(jax.random.fold_in(key, 0))
    table = code_table(jax.random.fold_in(key, 1), 20, CODE, deviation=0.01, multiple=20)
    rows = batch_rows(20, schedule, 0)
    targets = jnp.asarray(IMAGES[rows], jnp.float32) / 255

    def loss(params, codes):
        made, _ = method.network.train(params, running, codes)
        return method.distance({}, made, targets).mean()

    of_codes = jax.grad(loss, argnums=1)(params, table.codes[rows])
    wanted, got = move(table, rows, of_codes, 0.01).codes, found.state.table.codes
    # The first step of Adam is the slope's sign, and where that is near 0, rounding decides.
    decided = np.zeros(got.shape, bool)
    decided[rows] = np.abs(of_codes) > 1e-3 * np.abs(of_codes).max()
    assert decided.mean() > 0.9
    np.testing.assert_allclose(got[decided], wanted[decided], atol=1e-5)
    slope = jax.grad(loss)(params, jnp.asarray(got)[rows])
    close(found.state.params, jax.tree.map(lambda p, g: p - 0.1 * g, params, slope))


def test_a_clipped_gradient_is_as_long_as_it_may_be(tmp_path):
    schedule = SCHEDULE._replace(epochs=1, batch=16, snapshot_every=1)
    method = glo_method(clip=1e-3)
    table = lambda key: code_table(key, 20, CODE, deviation=0.01, multiple=16)  # noqa: E731
    found = trained(tmp_path, method, table=table, schedule=schedule)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0)
    first, _ = method.network.init(key)
    moved = jax.tree.map(lambda a, b: a - b, found.state.params, first)
    assert float(optax.tree_utils.tree_norm(moved)) == pytest.approx(0.1 * 1e-3, rel=1e-2)


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    """Of all that were saved, the last two, and that with the least loss."""
    config = autoencoder.Config(
        **{**TINY, **FAST, **SETS, "epochs": 3, "snapshot_every": 1, "keep": 2},
        out=str(tmp_path),
        name="a",
    )
    outcome = autoencoder.run(config)["l2"]
    kept = {int(path.name) for path in (tmp_path / "autoencoder/a/checkpoints/l2").iterdir()}
    steps = [line["step"] for line in outcome.metrics]
    best = min(outcome.metrics, key=lambda line: (line["loss"], -line["step"]))["step"]
    assert len(steps) > 4
    assert kept == {*steps[-2:], best}


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_last_checkpoint(tmp_path):
    """Infinite from the fourth step on, by the rate of the third."""
    rate = lambda step: jnp.where(step == 2, jnp.inf, 1e-3)  # noqa: E731
    method = glo_method()._replace(optimiser=optax.sgd(rate))
    with pytest.raises(pj.InputError, match="not finite at step 4; the checkpoint of step 2"):
        trained(tmp_path, method)
    (kept,) = (tmp_path / "glo" / "a" / "checkpoints" / "l2").iterdir()
    assert kept.name == "2"


def test_what_is_not_saved_on_the_way_stops_when_asked_to(tmp_path):
    folder = start("glo", Place(str(tmp_path)))
    asked, told = iter([False, True]), 0
    stopping = pytest.raises(loop.Interrupted, match=r"stopped at seeking.*--name a --resume")
    with (
        stopping,
        loop.stoppable(
            "seeking", 9, unit="steps", folder=folder, asked_to_stop=lambda: next(asked)
        ) as advance,
    ):
        for _ in range(9):
            told += 1
            advance()
    assert told == 2


# --- The commands --------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "memory"), [("float32", 4.0), ("bfloat16", 0.0)])
@pytest.mark.parametrize("command", [autoencoder, glo], ids=["autoencoder", "glo"])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, monkeypatch, command, dtype, memory):
    """Bit for bit, after a SIGTERM between two snapshots; also where images are in a file."""
    config = command.Config(
        **{**TINY, **FAST, **SETS, "warm_up": 1}, dtype=dtype, out=str(tmp_path)
    )
    cache = tmp_path / command.__name__.split(".")[-1] / "broken" / "images.npy"
    if command is autoencoder and dtype == "bfloat16":
        config = dataclasses.replace(config, augment=("mirror", "shift"))
    if command is glo:
        config = dataclasses.replace(config, held_out_steps=2, sampler_steps=5)
    whole = command.run(dataclasses.replace(config, name="whole"))["l2"]
    taken = 0

    def stop_after_five():
        nonlocal taken
        taken += 1
        if taken == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return 1

    with monkeypatch.context() as patch:
        patch.setattr(training, "chunk_length", stop_after_five)
        with pytest.raises(loop.Interrupted, match="--name broken --resume"):
            command.run(dataclasses.replace(config, name="broken", memory=memory))
    assert cache.exists() == (memory == 0)
    resumed = command.run(command.Config(out=str(tmp_path), name="broken", resume=True))["l2"]
    assert not cache.exists()
    for field in ("reconstructions", "learned", "samples", "interpolations", "sets"):
        jax.tree.map(np.testing.assert_array_equal, getattr(whole, field), getattr(resumed, field))
    by_step = {line["step"]: line for line in resumed.metrics}
    assert all(by_step[line["step"]] == line for line in whole.metrics)


@pytest.mark.parametrize("command", [autoencoder, glo], ids=["autoencoder", "glo"])
def test_every_loss_begins_with_the_same_warm_up(tmp_path, monkeypatch, command):
    """Learned once; network, running averages and codes are those that it ended with."""
    begun = []
    train = training.train

    def watched(method, images, schedule, **options):
        found = train(method, images, schedule, **options)
        table = options.get("table")
        codes = [] if table is None else table(jax.random.key(0)).codes
        begun.append((options["label"]["distance"], options.get("first"), codes, found.state))
        return found

    monkeypatch.setattr(command, "train", watched)
    mixed = "l1 + 0.5 * l2"
    options = {**TINY, **FAST, **SETS, "distances": ("l2", mixed), "warm_up": 3, "epochs": 1}
    config = command.Config(**options, out=str(tmp_path), name="a")
    if command is glo:
        config = dataclasses.replace(config, held_out_steps=2, samplers=("normal",))
    assert list(command.run(config)) == ["l2", mixed]
    before = "l2, before all"
    assert [label for label, *_ in begun] == [before, "l2", before, mixed]
    end = begun[0][-1]
    for _, first, codes, _ in (begun[1], begun[3]):
        jax.tree.map(np.testing.assert_array_equal, first, (end.params, end.running))
        if command is glo:
            np.testing.assert_array_equal(codes, end.table.codes)
    log = (tmp_path / command.__name__.split(".")[-1] / "a" / "metrics.jsonl").read_text()
    steps = [json.loads(line)["step"] for line in log.splitlines() if before in line]
    assert steps == sorted(set(steps))
    jax.tree.map(np.testing.assert_array_equal, begun[2][-1].params, end.params)


@pytest.mark.parametrize("command", ["autoencoder", "glo"])
def test_the_commands_learn_and_write_what_they_say(cli, tmp_path, command):
    arguments = [command, "--name", "a", "--distances", "l2", RANDOM, "--measures", "l2"]
    for field, value in TINY.items():
        arguments += [f"--{field.replace('_', '-')}", value]
    arguments += ["--warm-up", 0, "--epochs", 60, "--snapshot-every", 60]
    arguments += ["--feature-weights", "random", "--samples", 9, "--neighbours", "l2"]
    arguments += ["--sampler-steps", 50] if command == "glo" else []
    outcome = cli(*arguments)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "runs" / command / "a"
    found = json.loads((folder / "results.json").read_text())
    results, sets = found["held_out"], found["sets"]
    assert set(results) == {"l2", RANDOM}
    kinds = ["normal", "imle", "gmmn"] if command == "glo" else ["normal"]
    for name in results:
        assert list(sets[name]) == ["reconstructed", *kinds]
        for score in [sets["held out"], *sets[name].values()]:
            assert set(score) == {
                *("frechet vgg16-random", "kernel vgg16-random", "sliced wasserstein"),
                *("sharpness", "nearest l2"),
            }
            assert all(np.isfinite(number) for number in score.values())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for name in results:
        own = [line for line in lines if line["distance"] == name]
        assert own[-1]["loss"] < 0.7 * own[0]["loss"]
    learned, held = learned_and_held_out("embedded", size=16, count=40, held_out=0.3, seed=0)
    mean = learned.images.mean(axis=0, keepdims=True, dtype=np.float32) / 255
    of_the_mean = pj.make("l2")({}, held.images.astype(np.float32) / 255, mean).mean()
    # Nearer than the best guess that is the same for all.
    assert results["l2"]["l2"] < of_the_mean
    for name in ("reconstructions.png", "samples.png", "interpolations.png", "neighbours.png"):
        assert pj.images.read(folder / name).std() > 10
    assert "Samples" in (folder / "report.html").read_text()
