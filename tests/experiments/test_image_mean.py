"""`perceptual-jax image-mean`: what it finds, that it resumes exactly, and on any devices."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments.common import loop, optimise
from experiments.common.data import EMBEDDED, TEXTURES, embedded_picture, variations
from experiments.common.run_folder import file_name
from experiments.image_mean import Config, embed_targets, mean_loss, method, run, sets_of
from experiments.image_mean.endurance import gives_up_at
from experiments.image_mean.method import starting_images

TINY = Config(
    distances=("l2", "alexnet-random(layers=('conv1',))"),
    sets=2,
    images_per_set=3,
    size=32,
    steps=6,
    snapshot_every=2,
)


def test_l2_mean_is_the_mean(tmp_path):
    """From grey, the minimiser of mean l2 is the pixel mean."""
    config = dataclasses.replace(
        TINY, distances=("l2",), start="gray", steps=400, snapshot_every=400, out=str(tmp_path)
    )
    found = run(config)["l2"].images
    wanted = np.stack([images.mean(axis=0) for images in sets_of(config).values()])
    assert np.abs(found - wanted).max() < 0.01


def test_every_loss_goes_down_and_is_logged(tmp_path):
    means = run(dataclasses.replace(TINY, start="noise", out=str(tmp_path), name="a"))
    for mean in means.values():
        first, last = mean.metrics[0], mean.metrics[-1]
        assert all(b < a for a, b in zip(first["loss"], last["loss"], strict=True))
    lines = (tmp_path / "image-mean" / "a" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6, 2, 4, 6]


@pytest.mark.parametrize("on_cpu", [True, False])
def test_batched_loss_is_each_set_alone(weights_store, monkeypatch, on_cpu):
    """Sets side by side give the loss and gradient of one at a time, in either form."""
    monkeypatch.setattr(method, "on_cpu", lambda: on_cpu)
    distance = pj.make("lpips-alex")
    params = distance.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (2, 48, 48, 3))
    targets = jax.random.uniform(jax.random.key(2), (2, 3, 48, 48, 3))
    embedded = embed_targets(distance, params, targets)

    @jax.jit
    def side_by_side(context, images):
        losses, pull = jax.vjp(lambda x: mean_loss(distance)(context, x), images)
        return losses, *pull(jnp.ones(2))

    @jax.jit
    @jax.value_and_grad
    def one_at_a_time(image, params, targets):
        return distance(params, jnp.repeat(image, 3, axis=0), targets).mean()

    losses, gradient = side_by_side((params, embedded), images)
    for i in range(2):
        alone, gradient_alone = one_at_a_time(images[i : i + 1], params, targets[i])
        np.testing.assert_allclose(losses[i], alone, rtol=1e-5)
        np.testing.assert_allclose(gradient[i], gradient_alone[0], atol=1e-6)


@pytest.mark.parametrize("redraw_every", [0, 3])
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, monkeypatch, redraw_every):
    """Bit for bit, after a stop in the middle of the second distance."""
    config = dataclasses.replace(TINY, redraw_every=redraw_every, out=str(tmp_path))
    whole = run(dataclasses.replace(config, name="whole"))

    steps_taken = 0
    chunk = loop.chunk_length()

    def stop_after_nine_steps():
        nonlocal steps_taken
        steps_taken += 1
        if steps_taken == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return chunk

    broken = dataclasses.replace(config, name="broken")
    monkeypatch.setattr(optimise, "chunk_length", stop_after_nine_steps)
    with pytest.raises(loop.Interrupted, match="--name broken --resume"):
        run(broken)
    monkeypatch.undo()
    # As the message says to: the options are those the run was started with.
    resumed = run(Config(out=str(tmp_path), name="broken", resume=True))
    for name, mean in whole.items():
        np.testing.assert_array_equal(mean.images, resumed[name].images)
        by_step = {line["step"]: line for line in resumed[name].metrics}
        assert all(by_step[line["step"]] == line for line in mean.metrics)


def test_chunks_of_steps_change_nothing(tmp_path, monkeypatch):
    """Steps inside `lax.scan`, as on accelerators, equal steps one by one."""
    one = run(dataclasses.replace(TINY, out=str(tmp_path), name="one"))
    monkeypatch.setattr(optimise, "chunk_length", lambda: 4)
    four = run(dataclasses.replace(TINY, out=str(tmp_path), name="four"))
    for name, mean in one.items():
        # Other compiled code rounds otherwise, and Adam's division by the gradient's own size
        # makes of that up to 1e-6 in six steps of 0.01.
        np.testing.assert_allclose(mean.images, four[name].images, atol=1e-5)


def first_slopes(config, name):
    """The gradient that a distance's first step follows."""
    distance = pj.make(name)
    targets = np.stack(list(sets_of(config).values()))
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    params = distance.init(jax.random.fold_in(key, 0))
    embedded = embed_targets(distance, params, jnp.asarray(targets))
    images = starting_images(config.start, targets, jax.random.fold_in(key, 2))
    loss = mean_loss(distance)
    return np.asarray(jax.grad(lambda images: loss((params, embedded), images).sum())(images))


def test_one_device_equals_many(tmp_path, monkeypatch):
    """Sets spread over two of the eight fake devices.

    From noise: at its minimum, where l2 starts by default, Adam follows rounding. So it does where
    a number's first slope is nearly 0 (3e-8 where most are 1e-3): its step is the slope's sign.
    """
    assert jax.device_count() == 8
    config = dataclasses.replace(TINY, start="noise", out=str(tmp_path))
    many = run(dataclasses.replace(config, name="many"))
    monkeypatch.setattr(optimise, "shard_leading", lambda tree, count: tree)
    one = run(dataclasses.replace(config, name="one"))
    for name, mean in one.items():
        decided = np.abs(first_slopes(config, name)) > 1e-7
        assert decided.mean() > 0.999
        np.testing.assert_allclose(mean.images[decided], many[name].images[decided], atol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "gray", "zeros", "blur", "noise", "split"])
def test_starts(kind):
    targets = np.random.default_rng(0).random((2, 3, 32, 32, 3), dtype=np.float32)
    images = starting_images(kind, targets, jax.random.key(0))
    assert images.shape == (2, 32, 32, 3)
    assert images.min() >= 0
    assert images.max() <= 1
    if kind == "split":
        np.testing.assert_array_equal(images[:, :, :16], targets[:, 0, :, :16])
        np.testing.assert_array_equal(images[:, :, 16:], targets[:, 1, :, 16:])
    if kind == "blur":
        assert images.std() < targets.mean(axis=1).std() / 4


def test_a_damaged_checkpoint_is_said(tmp_path):
    config = dataclasses.replace(TINY, out=str(tmp_path), name="a")
    run(config)
    for file in (tmp_path / "image-mean" / "a" / "checkpoints" / "l2" / "6").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(pj.InputError, match="cannot be read"):
        run(dataclasses.replace(config, resume=True))


def test_file_names_of_different_texts_differ():
    """Also where they share their first letters or differ in what a file's name cannot hold."""
    long = "vgg16-random(layers=('conv1_2','conv2_2','conv3_3','conv4_3','conv5_3'), metric="
    texts = ["l2", "a b", "a_b", "a/b", "..", "", f"{long}'gram')", f"{long}'cosine')", "\udc80"]
    names = [file_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    assert names[0] == "l2"
    assert all(0 < len(name) <= 70 and "/" not in name and name[0] != "." for name in names)


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_pictures_are_square_colour_photographs(name):
    picture = embedded_picture(name)
    assert picture.shape[0] == picture.shape[1] >= 128
    assert picture.std() > 20


def test_variations_are_near_and_not_equal():
    views = variations(embedded_picture("coffee"), 3, 64, shift=3, warp=1.5, seed=0)
    assert views.shape == (3, 64, 64, 3)
    differences = np.abs(views[0] - views[1:]).mean(axis=(1, 2, 3))
    assert (differences > 0.01).all()
    assert (differences < 0.2).all()
    still = variations(embedded_picture("coffee"), 2, 64, shift=0, warp=0, seed=0)
    np.testing.assert_allclose(still[0], still[1], atol=1e-6)


def test_folders_of_folders_are_sets(tmp_path, picture):
    for name in ("cats", "dogs"):
        for i in range(3):
            picture(f"data/{name}/{i}.png", seed=i, size=(40, 50))
    sets = sets_of(Config(data=str(tmp_path / "data"), images_per_set=2, size=32))
    assert {name: images.shape for name, images in sets.items()} == {
        "cats": (2, 32, 32, 3),
        "dogs": (2, 32, 32, 3),
    }


def test_textures_are_pieces_at_their_own_resolution(tmp_path, picture):
    file = picture("data/wall.png", size=(40, 50))
    (pieces,) = sets_of(
        Config(kind="textures", data=str(tmp_path / "data"), images_per_set=3, size=32)
    ).values()
    whole = pj.images.read(file).astype(np.float32) / 255
    windows = np.lib.stride_tricks.sliding_window_view(whole, (32, 32, 3)).reshape(-1, 32, 32, 3)
    for piece in pieces:
        assert (windows == piece).all(axis=(1, 2, 3)).any()
    assert len(np.unique(pieces.reshape(3, -1), axis=0)) == 3
    embedded = sets_of(Config(kind="textures", sets=3, size=64))
    assert tuple(embedded) == TEXTURES


def test_shifts_move_one_picture_further_and_further():
    """All sets at one scale; the views of a set in the same directions as those of the next."""
    still, small, large = sets_of(
        Config(kind="shifts", shifts=(0, 2, 4), images_per_set=4, size=48)
    ).values()
    assert np.ptp(still, axis=0).max() < 1e-6
    apart = [np.abs(views - still).mean() for views in (small, large)]
    assert 0 < apart[0] < apart[1]
    # Twice as far in the same direction: moved by what the small shift is, it is nearer than still.
    nearer = np.abs(large - small).mean(axis=(1, 2, 3)) < np.abs(large - still).mean(axis=(1, 2, 3))
    assert nearer.all()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([0.0, 0.2, 0.6], 3.0), ([0.0, 0.1, 0.3], None), ([0.0, 0.5, 0.3], 1.6), ([0.5, 0, 0], 0.0)],
)
def test_the_shift_at_which_a_distance_gives_up(values, wanted):
    found = gives_up_at((0.0, 2.0, 4.0), values, 0.4)
    assert found == (None if wanted is None else pytest.approx(wanted))
    # In whatever order the shifts were given.
    assert gives_up_at((4.0, 0.0, 2.0), [values[i] for i in (2, 0, 1)], 0.4) == found


def test_shifts_are_judged_and_kept(weights_store, tmp_path):
    """The l2 mean of views that are moved further is further from all of them."""
    config = dataclasses.replace(
        TINY, kind="shifts", shifts=(0, 4), distances=("l2",), size=64, out=str(tmp_path), name="a"
    )
    run(config)
    folder = tmp_path / "image-mean" / "a"
    results = json.loads((folder / "results.json").read_text())
    assert list(results["sharpness"]["l2"]) == ["moved by up to 0 px", "moved by up to 4 px"]
    still, moved = results["to_nearest_view"]["l2"]
    assert still < 1e-3 < 0.03 < moved < results["to_another_picture"]
    wanted = gives_up_at((0, 4), [still, moved], results["to_another_picture"] / 2)
    assert results["gives_up_at"]["l2"] == wanted
    assert "At what shift does each give up?" in (folder / "report.html").read_text()


def test_coarse_to_fine(tmp_path, monkeypatch):
    """From grey at three sizes, the l2 mean is still the pixel mean; a stop changes nothing."""
    config = dataclasses.replace(
        TINY, distances=("l2",), start="gray", steps=300, snapshot_every=50, scales=3
    )
    whole = run(dataclasses.replace(config, out=str(tmp_path), name="whole"))["l2"]
    wanted = np.stack([images.mean(axis=0) for images in sets_of(config).values()])
    assert np.abs(whole.images - wanted).max() < 0.01
    assert [line["step"] for line in whole.metrics] == [50, 100, 150, 200, 250, 300]
    assert [line["scale"] for line in whole.metrics[::2]] == ["8x8", "16x16", "32x32"]

    chunk, taken = loop.chunk_length(), []

    def stop_at_the_second_size():
        taken.append(chunk)
        if len(taken) == 120:
            os.kill(os.getpid(), signal.SIGTERM)
        return chunk

    monkeypatch.setattr(optimise, "chunk_length", stop_at_the_second_size)
    with pytest.raises(loop.Interrupted):
        run(dataclasses.replace(config, out=str(tmp_path), name="broken"))
    monkeypatch.undo()
    resumed = run(Config(out=str(tmp_path), name="broken", resume=True))["l2"]
    np.testing.assert_array_equal(resumed.images, whole.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": 5, "size": 16}, "--scales 5 are too many for --size 16"),
        ({"shifts": ()}, "--shifts must name one or more"),
        ({"shifts": (0, -1)}, "--shifts must name one or more, of at least 0"),
        ({"shifts": (2, 2)}, "each shift once"),
        ({"kind": "textures", "sets": 4}, "3 embedded textures; got --sets 4"),
        ({"kind": "textures", "sets": 1, "size": 512}, "brick has 512x512 pixels, too few"),
        ({"kind": "shifts", "data": "nowhere.png"}, "there is no file or folder nowhere.png"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, message):
    with pytest.raises(pj.InputError, match=message):
        run(dataclasses.replace(TINY, **options, out=str(tmp_path)))
    assert not (tmp_path / "image-mean").exists()


@pytest.mark.slow
def test_perceptual_means_are_sharp_and_the_l2_mean_is_not(weights_store, tmp_path):
    """VGG and LPIPS means have at least 1.5 times the gradient energy of the l2 mean."""
    config = Config(
        distances=("l2", "vgg16", "lpips-vgg"), sets=1, size=64, steps=60, out=str(tmp_path)
    )
    means = run(config)
    blurry = means["l2"].sharpness[0]
    assert means["vgg16"].sharpness[0] > 1.5 * blurry
    assert means["lpips-vgg"].sharpness[0] > 1.5 * blurry
