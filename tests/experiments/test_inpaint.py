"""Inpainting: masks, the network, the judge, and the two commands."""

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
from experiments import fill, inpaint
from experiments.common import loop, training
from experiments.common.data import embedded_picture
from experiments.common.network_files import read
from experiments.inpaint import Holes
from experiments.inpaint.config import Config
from experiments.inpaint.judging import judge_by
from experiments.inpaint.masks import drawn, read_mask, scattered, with_hole
from experiments.inpaint.networks import KIND, Filler, smooth

TINY = Config(
    losses=("l1", "l1 + 0.1 * l2"), measures=("l1",), levels=2, width=4, crop=16, batch=8,
    further_batch=8, steps=4, further_steps=3, snapshot_every=2,
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_device")


# --- Masks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["squares", "strokes"])
def test_masks_are_holes_of_a_sensible_size(kind):
    masks = [drawn(kind, 64, np.random.default_rng(seed)) for seed in range(50)]
    parts = np.array([mask.mean() for mask in masks])
    assert {mask.shape for mask in masks} == {(64, 64)}
    assert 0.03 < parts.min() < parts.mean() < parts.max() < 0.5
    assert len(np.unique(parts)) > 10
    for mask in masks[:10] if kind == "squares" else ():
        rows, columns = mask.any(axis=1).sum(), mask.any(axis=0).sum()
        assert rows == columns
        assert mask.sum() == rows * columns
        assert 16 <= rows <= 32


def test_both_are_drawn_in_turns():
    whole = [drawn("both", 32, np.random.default_rng(seed)) for seed in range(20)]
    squares = [mask.sum() == mask.any(axis=1).sum() * mask.any(axis=0).sum() for mask in whole]
    assert 3 < sum(squares) < 17


def test_what_is_given_has_a_grey_hole_and_says_where():
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    mask = np.zeros((8, 8), bool)
    mask[2:4, 5:] = True
    given = with_hole(picture, mask)
    assert given.dtype == np.uint8
    np.testing.assert_array_equal(given[..., :3][~mask], picture[~mask])
    assert (given[..., :3][mask] == 128).all()
    np.testing.assert_array_equal(given[..., 3] == 255, mask)


def test_masks_are_read_white_is_the_hole(tmp_path):
    picture = np.zeros((6, 9, 3), np.uint8)
    picture[1:3, 4:6] = 255
    pj.images.write(tmp_path / "mask.png", picture)
    mask = read_mask(str(tmp_path / "mask.png"), (6, 9))
    np.testing.assert_array_equal(mask, picture[..., 0] > 0)
    with pytest.raises(pj.InputError, match="has 9x6 pixels, the picture 8x6"):
        read_mask(str(tmp_path / "mask.png"), (6, 8))
    pj.images.write(tmp_path / "black.png", np.zeros((6, 9, 3), np.uint8))
    with pytest.raises(pj.InputError, match="bright nowhere: white is to be filled"):
        read_mask(str(tmp_path / "black.png"), (6, 9))


def test_batches_are_of_their_step_alone():
    paths = inpaint.learned_from("embedded", 32)
    config = dataclasses.replace(TINY, crop=32)
    first, again = Holes(config, paths).batch(5, 6), Holes(config, paths)
    again.batch(1, 6)
    for one, other in zip(first, again.batch(5, 6), strict=True):
        np.testing.assert_array_equal(one, other)
    other = Holes(dataclasses.replace(config, seed=1), paths).batch(5, 6)
    assert (first.wanted != other.wanted).any()
    kept = first.inputs[..., 3] == 0
    np.testing.assert_array_equal(first.inputs[..., :3][kept], first.wanted[kept])


# --- The network and the judge -------------------------------------------------------------


@pytest.fixture(scope="module")
def untrained():
    """A network as it begins, as jitted use of [n, 32, 32, 4]."""
    made = KIND.build(2, 4)
    params, _ = made.init(jax.random.key(0))
    return jax.jit(lambda given: made.use(params, {}, given))


@pytest.fixture(scope="module")
def trained():
    """A network of random weights in all layers, likewise."""
    made = KIND.build(2, 4)
    params, _ = made.init(jax.random.key(0))
    params["pixels"]["kernel"] = 0.1 * jax.random.normal(jax.random.key(1), (3, 3, 4, 3))
    return jax.jit(lambda given: made.use(params, {}, given))


def test_what_is_not_in_the_hole_is_kept_exactly(trained, untrained):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask = drawn("strokes", 32, np.random.default_rng(1))
    given = jnp.asarray(with_hole(picture, mask)[None], jnp.float32) / 255
    made = np.asarray(trained(given))[0]
    np.testing.assert_array_equal(made[~mask], np.asarray(given)[0, ..., :3][~mask])
    begun = np.asarray(untrained(given))[0]
    np.testing.assert_array_equal(begun, np.asarray(jax.jit(smooth, static_argnums=1)(given, 2))[0])
    assert np.abs(made - begun)[mask].max() > 0.01


def test_holes_are_filled_smoothly():
    """A ramp across a hole is about continued, and nothing outside of it is changed."""
    ramp = np.broadcast_to(np.linspace(0, 1, 32, dtype=np.float32)[:, None], (32, 32, 3))
    mask = np.zeros((32, 32, 1), np.float32)
    mask[12:20, 8:24] = 1
    given = np.concatenate([np.where(mask > 0, 0.5, ramp), mask], axis=-1)
    filled = np.asarray(smooth(jnp.asarray(given[None]), 3))[0]
    hole = mask[..., 0] > 0
    np.testing.assert_allclose(filled[~hole], ramp[~hole], atol=1e-6)
    assert np.abs(filled[hole] - ramp[hole]).max() < 0.1
    # Where nothing near is known: the mean of what is.
    corner = np.concatenate([np.full((64, 64, 3), 0.3), np.ones((64, 64, 1))], axis=-1)
    corner[:2, :2, 3] = 0
    filled = np.asarray(smooth(jnp.asarray(corner[None], jnp.float32), 2))
    np.testing.assert_allclose(filled, 0.3, atol=1e-5)


def test_holes_are_scattered_as_large_as_those_learned_from():
    mask = scattered("squares", (70, 100), 32, (0, 1))
    assert mask.shape == (70, 100)
    parts = [
        mask[32 * row : 32 * row + 32, 32 * column :][:, :32]
        for row in range(2)
        for column in range(3)
    ]
    assert [part.any() for part in parts] == [True, False, True, False, True, False]
    assert not mask[64:].any()
    assert (mask == scattered("squares", (70, 100), 32, (0, 1))).all()
    assert (mask != scattered("squares", (70, 100), 32, (0, 2))).any()


def test_what_was_in_the_hole_cannot_be_seen(trained):
    mask = np.zeros((32, 32), bool)
    mask[8:20, 8:20] = True
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pictures[1] = np.where(mask[..., None], pictures[1], pictures[0])
    given = np.stack([with_hole(picture, mask) for picture in pictures])
    np.testing.assert_array_equal(*trained(jnp.asarray(given, jnp.float32) / 255))


def test_the_judge_sees_the_inside_alone():
    wanted = np.full((16, 16, 3), 100, np.uint8)
    mask = np.zeros((16, 16), bool)
    mask[4:8, 4:8] = True
    made = wanted.copy()
    made[mask] += 51
    judge = judge_by([pj.make("l1")], seed=0)
    found = judge(made, wanted, mask)
    assert found["psnr"] == pytest.approx(-10 * np.log10(0.2**2))
    inside_alone = judge(np.full_like(wanted, 151), wanted, np.ones_like(mask))
    assert found["l1"] == pytest.approx(inside_alone["l1"], rel=1e-5)
    assert judge(wanted, wanted, mask) == {"psnr": 100, "l1": 0}
    with pytest.raises(pj.InputError, match="mmd-rff has no map"):
        judge_by([pj.make("vgg16-random(metric='gram')")._replace(name="mmd-rff")], seed=0)


# --- The runs ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run's folder, and what it found."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(jax, "device_count", lambda: 1)
        found = inpaint.run(dataclasses.replace(TINY, out=str(out), name="a"))
    return out / "inpaint" / "a", found


def test_all_is_written(whole):
    folder, outcomes = whole
    results = json.loads((folder / "results.json").read_text())
    assert set(results["means"]["embedded"]) == {"smooth", *TINY.losses}
    assert set(outcomes) == set(TINY.losses)
    for values in results["pictures"]["embedded"].values():
        assert set(values["l1"]) == {"psnr", "l1"}
    assert {path.name for path in folder.glob("embedded-*.png")} == {
        "embedded-chelsea.png",
        "embedded-coffee.png",
    }
    page = (folder / "report.html").read_text()
    assert "inside of the holes alone" in page
    for loss in TINY.losses:
        lines = [line["step"] for line in outcomes[loss].metrics]
        assert lines == ([2, 4] if loss == "l1" else [2, 4, 6, 7])


def test_a_resumed_run_equals_an_unbroken_one(whole, tmp_path, monkeypatch):
    """Bit for bit, after a stop in the second loss."""
    steps_taken, chunk = 0, loop.chunk_length()

    def stop_after_five_steps():
        nonlocal steps_taken
        steps_taken += 1
        if steps_taken == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return chunk

    monkeypatch.setattr(training, "chunk_length", stop_after_five_steps)
    with pytest.raises(loop.Interrupted, match="--name a --resume"):
        inpaint.run(dataclasses.replace(TINY, out=str(tmp_path), name="a"))
    monkeypatch.setattr(training, "chunk_length", lambda: chunk)
    found = inpaint.run(Config(out=str(tmp_path), name="a", resume=True))
    for loss, outcome in whole[1].items():
        jax.tree.map(np.testing.assert_array_equal, outcome.params, found[loss].params)


def test_one_device_equals_many(whole, tmp_path, many_devices):
    found = inpaint.run(dataclasses.replace(TINY, out=str(tmp_path), name="a"))
    for loss, outcome in whole[1].items():
        np.testing.assert_allclose(
            [line["loss"] for line in outcome.metrics],
            [line["loss"] for line in found[loss].metrics],
            rtol=1e-4,
        )


def test_pictures_are_filled(whole, tmp_path):
    """A hole at the border of a photo: only it is changed, as the network makes it."""
    picture = embedded_picture("coffee")[:70, :90]
    mask = np.zeros((70, 90), bool)
    mask[:9, 60:75] = True
    pj.images.write(tmp_path / "photo.png", picture)
    pj.images.write(tmp_path / "mask.png", np.repeat(255 * mask[..., None], 3, -1).astype(np.uint8))
    made = fill.run(
        fill.Config(
            picture=str(tmp_path / "photo.png"),
            mask=str(tmp_path / "mask.png"),
            network=str(whole[0]),
            loss="l1",
            out=str(tmp_path),
            name="a",
        )
    )
    np.testing.assert_array_equal(made[~mask], picture[~mask])
    written = pj.images.read(tmp_path / "fill" / "a" / "photo.png")
    np.testing.assert_array_equal(written, made)
    saved = read(whole[0] / "network-l1.safetensors", KIND)
    # The same by hand: a hole of 9 x 15, and four blocks of four pixels on each side of it.
    padded = np.pad(picture, ((16, 0), (0, 2), (0, 0)), mode="symmetric")
    holes = np.pad(mask, ((16, 0), (0, 2)), mode="symmetric")
    window = np.s_[0 : 9 + 32 + 3, 44 : 44 + 15 + 32 + 1]
    given = with_hole(padded[window], holes[window])
    use = jax.jit(KIND.build(*saved.shape.values()).use)
    wanted = pj.images.to_uint8(use(saved.params, {}, np.float32(1 / 255) * given[None]))[0]
    np.testing.assert_array_equal(made[:9, 60:75], wanted[16:25, 16:31])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 18}, "--crop must be a multiple of 4"),
        ({"levels": 0}, "--levels must be at least 1"),
        ({"losses": ()}, "--losses must name one or more"),
        ({"measures": ("vgg16-random(metric='gram')",)}, "has no map"),
        ({"data": "nowhere"}, "there is no folder nowhere"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, message):
    with pytest.raises(pj.InputError, match=message):
        inpaint.run(dataclasses.replace(TINY, **options, out=str(tmp_path)))
    assert not (tmp_path / "inpaint").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": ""}, "--mask must name a picture"),
        ({"network": "nowhere"}, "--network must be the folder of a run of inpaint"),
        ({"picture": "nowhere.png"}, "there is no file or folder nowhere.png"),
    ],
)
def test_what_cannot_be_filled(whole, tmp_path, options, message):
    good = {"picture": "coffee", "mask": "mask.png", "network": str(whole[0])}
    with pytest.raises(pj.InputError, match=message):
        fill.run(fill.Config(**{**good, **options}, out=str(tmp_path)))
    assert not (tmp_path / "fill").exists()


def test_a_network_learns_to_fill():
    """Holes in stripes of two colours: 200 steps take the error to a third of smooth fillings'."""
    rng = np.random.default_rng(0)
    module = Filler(2, 8)
    made = inpaint.network(module, (1, 16, 16, 4))
    params, _ = made.init(jax.random.key(0))
    stripes = (np.arange(16) // 2 % 2 == 0).reshape(1, 1, 16, 1)
    fill_smoothly = jax.jit(smooth, static_argnums=1)

    def batch(count):
        colours = rng.integers(0, 256, (2, count, 1, 1, 3), dtype=np.uint8)
        wanted = np.broadcast_to(np.where(stripes, *colours), (count, 16, 16, 3))
        masks = [drawn("squares", 16, rng) for _ in range(count)]
        given = [with_hole(w, m) for w, m in zip(wanted, masks, strict=True)]
        return np.float32(1 / 255) * np.stack(given), np.float32(1 / 255) * wanted

    optimiser = optax.adam(3e-3)
    state = optimiser.init(params)

    @jax.jit
    def step(params, state, given, wanted):
        def loss(params):
            return jnp.abs(made.use(params, {}, given) - wanted).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    for _ in range(200):
        given, wanted = batch(16)
        begun = np.abs(fill_smoothly(given, 2) - wanted).mean()
        params, state, value = step(params, state, given, wanted)
    assert value < begun / 3
