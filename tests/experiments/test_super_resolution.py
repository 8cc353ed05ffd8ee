"""Super-resolution: its network, crops, losses and judge, and the two commands."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments import super_resolution
from experiments.common import loop, training
from experiments.common.critic import Critic
from experiments.common.crops import learned_from, pictures_to_judge
from experiments.common.generators import network
from experiments.common.losses import parsed, weighed
from experiments.common.network_files import read
from experiments.super_resolution.config import Config
from experiments.super_resolution.judging import judge_by, luma_psnr
from experiments.super_resolution.networks import KIND, Enlarger, enlarger, margin
from experiments.super_resolution.pairs import Pairs, small
from experiments.super_resolution.report import detail
from experiments.super_resolution.tiles import in_tiles

TINY = {"blocks": 1, "width": 4, "crop": 8, "scale": 2, "batch": 8, "measures": ("l2",)}
SHORT = {"steps": 4, "further_steps": 3, "snapshot_every": 2}


pytestmark = pytest.mark.usefixtures("one_device")


def drawn(module, seed=0):
    """A network of random weights, in its last layer too, which begins as 0."""
    found = network(module, (1, 8, 8, 3))
    params, _ = found.init(jax.random.key(seed))
    kernel = params["pixels"]["kernel"]
    params["pixels"]["kernel"] = 0.1 * jax.random.normal(jax.random.key(1), kernel.shape)
    return jax.jit(lambda images: found.use(params, {}, images)), params


# --- The networks --------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_network_begins_as_bicubic_enlargement(scale):
    # Of middling values: Pillow clips what overshoots along one axis before it takes the other.
    image = np.random.default_rng(0).integers(80, 176, (9, 12, 3), dtype=np.uint8)
    found = network(Enlarger(scale, 2, 8), (1, 8, 8, 3))
    params, running = found.init(jax.random.key(0))
    made = found.use(params, running, jnp.asarray(image[None], jnp.float32) / 255)
    wanted = pj.images.resize(image, (9 * scale, 12 * scale))
    # And rounds after each.
    difference = pj.images.to_uint8(made[0]).astype(int) - wanted
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_pixel_is_seen_as_far_as_the_margin_says(blocks):
    use, _ = drawn(Enlarger(2, blocks, 8))
    side, middle = 4 * blocks + 15, 2 * blocks + 7
    image = np.full((1, side, side, 3), 0.5, np.float32)
    other = image.copy()
    other[0, middle, middle] = 1
    rows = np.flatnonzero(np.abs(use(image) - use(other)).max(axis=(0, 2, 3)))
    assert rows.min() // 2 == middle - margin(blocks)
    assert rows.max() // 2 == middle + margin(blocks)


@pytest.mark.parametrize("shape", [(40, 61), (17, 90), (8, 8)])
def test_tiles_show_no_seam(shape):
    module = Enlarger(3, 2, 8)
    use, _ = drawn(module)
    picture = np.random.default_rng(0).random((*shape, 3), np.float32)
    tiled = in_tiles(use, picture, scale=3, margin=margin(2), tile=16)
    np.testing.assert_allclose(tiled, use(picture[None])[0], atol=2e-6)


def test_all_tiles_are_one_program():
    seen = set()

    def enlarge(images):
        seen.add(images.shape)
        return images.repeat(2, axis=1).repeat(2, axis=2)

    picture = np.random.default_rng(0).random((100, 77, 3), np.float32)
    made = in_tiles(enlarge, picture, scale=2, margin=3, tile=16)
    np.testing.assert_array_equal(made, picture.repeat(2, axis=0).repeat(2, axis=1))
    assert seen == {(1, 22, 22, 3)}


def test_a_critic_stretches_no_layer():
    """After some steps the power method has found the norm of every kernel."""
    found = network(Critic((8, 16)), (1, 16, 16, 3))
    params, running = found.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
    before = running
    for _ in range(30):
        logits, running = found.train(params, running, images)
    assert logits.shape == (2, 4, 4, 1)
    assert not np.allclose(before["layer_0"]["left"], running["layer_0"]["left"])
    tenfold = jax.tree.map(lambda leaf: 10 * leaf, params)
    np.testing.assert_allclose(found.use(tenfold, running, images), logits, rtol=0.01, atol=1e-4)
    kernel = np.asarray(params["layer_1"]["kernel"]).reshape(-1, 16)
    top = np.linalg.svd(kernel, compute_uv=True)[2][0]
    assert abs(top @ np.asarray(running["layer_1"]["left"])) > 0.99


# --- Crops ---------------------------------------------------------------------------------


def test_crops_are_of_the_pictures_and_by_seed_and_step(tmp_path, picture):
    paths = [picture(f"{i}.png", seed=i, size=(20, 30)) for i in range(3)]
    options = {"crop": 4, "scale": 2, "resizer": "bicubic"}
    first = Pairs(paths, **options, seed=0).batch(5, 6)
    again = Pairs(paths, **options, seed=0)
    again.batch(4, 6)
    np.testing.assert_array_equal(first.wanted, again.batch(5, 6).wanted)
    assert (first.wanted != again.batch(6, 6).wanted).any()
    assert (first.wanted != Pairs(paths, **options, seed=1).batch(5, 6).wanted).any()
    assert first.inputs.shape == (6, 4, 4, 3)
    assert first.wanted.shape == (6, 8, 8, 3)
    pictures = [pj.images.read(path) for path in paths]
    turned = set()
    for given, wanted in zip(first.inputs, first.wanted, strict=True):
        np.testing.assert_array_equal(given, small(wanted, 2, "bicubic"))
        turned |= {k for k in range(8) if found_in(pictures, dihedral(wanted, k))}
    assert len(turned) > 2


def dihedral(image, k):
    image = image.transpose(1, 0, 2) if k & 4 else image
    return image[:: -1 if k & 1 else 1, :: -1 if k & 2 else 1]


def found_in(pictures, image):
    windows = (np.lib.stride_tricks.sliding_window_view(p, image.shape) for p in pictures)
    return any((w == image).all(axis=(-3, -2, -1)).any() for w in windows)


@pytest.mark.parametrize("resizer", ["bicubic", "bilinear", "lanczos", "box"])
def test_small_pictures_are_pillows(resizer):
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    made = small(image, 4, resizer)
    if resizer == "box":
        means = image.reshape(4, 4, 6, 4, 3).mean(axis=(1, 3))
        assert np.abs(made - means).max() <= 1
    np.testing.assert_array_equal(made, pj.images.resize(image, (4, 6), method=resizer))


def test_folders_within_folders_are_learned_from_and_small_pictures_are_not(tmp_path, picture):
    large = [picture("data/a/1.png", size=(40, 50)), picture("data/b/c/2.png", size=(40, 50))]
    picture("data/3.png", size=(31, 90))
    (tmp_path / "data" / "notes.txt").write_text("no picture")
    assert learned_from(str(tmp_path / "data"), 32) == sorted(large)
    with pytest.raises(pj.InputError, match="3 pictures, none of them with sides of at least 60"):
        learned_from(str(tmp_path / "data"), 60)


def test_the_embedded_pictures_that_are_judged_are_not_learned_from():
    learned = {path.stem for path in learned_from("embedded", 96)}
    assert len(learned) > 8
    assert not learned & set(pictures_to_judge(("embedded",), 4)["embedded"])


# --- Judging -------------------------------------------------------------------------------


def test_psnr_is_that_of_luma_from_16_to_235():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert luma_psnr(black, white) == pytest.approx(20 * np.log10(255 / 219), abs=1e-6)
    green = black.copy()
    green[..., 1] = 255
    assert luma_psnr(black, green) == pytest.approx(20 * np.log10(255 / 128.553), abs=1e-6)
    assert luma_psnr(white, white) == np.inf


def test_the_border_is_not_judged():
    rng = np.random.default_rng(0)
    wanted = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    made = np.clip(wanted.astype(int) + rng.integers(-9, 10, wanted.shape), 0, 255).astype(np.uint8)
    spoilt = made.copy()
    spoilt[:4], spoilt[:, -4:] = 0, 255
    judge = judge_by([pj.make("l1")], scale=4, seed=0)
    found = judge(made, wanted)
    assert found == judge(spoilt, wanted)
    assert set(found) == {"psnr", "ssim", "l1"}
    inner = made[4:-4, 4:-4], wanted[4:-4, 4:-4]
    assert found["psnr"] == luma_psnr(*inner)
    same = judge(wanted, wanted)
    assert same["ssim"] == pytest.approx(1)
    assert found["ssim"] < 0.999


def test_detail_is_found_where_it_is():
    picture = np.full((40, 50, 3), 128, np.uint8)
    picture[20:28, 32:40] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    top, left = detail(picture, 12, 4)
    assert (top % 4, left % 4) == (0, 0)
    assert top <= 20
    assert top + 12 >= 28
    assert left <= 32
    assert left + 12 >= 40


# --- Losses --------------------------------------------------------------------------------


def test_parts_without_a_weight_are_as_large_as_the_first():
    rng = np.random.default_rng(0)
    made, wanted = rng.random((2, 3, 32, 32, 3), np.float32)
    (total,) = parsed(["2 * l1 + ssim  + 0.25 * l2 + adversary"], 32)
    assert total.name == "2 * l1 + ssim + 0.25 * l2 + adversary"
    assert total.adversary > 0
    distance = weighed(total, made, wanted, seed=0)
    # Pixels are compared on the scale from -1 to 1.
    terms = {name: float(v.mean()) for name, v in distance.terms({}, made, wanted).items()}
    assert terms["l1"] == pytest.approx(4 * np.abs(made - wanted).mean(), rel=1e-5)
    assert terms["ssim"] == pytest.approx(terms["l1"], rel=0.05)  # the weight has two digits
    assert terms["l2"] == pytest.approx(np.square(made - wanted).mean(), rel=1e-5)


def test_a_distance_alone_is_itself_and_names_with_a_plus_are_no_sum():
    (alone, named, small) = parsed(["l1", "l1 + mmd++", "l1 + 1e-5 * l2(value_range=(0, 1))"], 32)
    assert small.weights == (1.0, 1e-5)
    assert weighed(alone, None, None, seed=0).name == "l1"
    assert [distance.name for distance in named.distances] == ["l1", "mmd++"]
    assert alone.adversary == 0


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["l1", " l1 "], "each once"),
        ([], "one or more"),
        (["adversary"], "no distance"),
        (["l1 + 0 * ssim"], "positive number"),
        (["l1 + lipps-vgg"], "did you mean"),
        (["l1 + l1"], "each once"),
        (["l1 + 0.2 lpips-vgg"], r"a \* is missing .*: write '0.2 \* lpips-vgg'"),
        (["0.2l1 + l2"], r"a \* is missing .*: write '0.2 \* l1'"),
        (["l1 - 0.2 * lpips-vgg"], "parts are added, none is subtracted"),
        (["l1 - ssim"], "parts are added, none is subtracted"),
        (["l1 + -0.2 * l2"], "parts are added, none is subtracted"),
        (["l1 + 3 - 1.safetensors"], "No such file or directory: 3 - 1.safetensors"),
    ],
)
def test_losses_that_are_none(specs, message):
    with pytest.raises(pj.InputError, match=message):
        parsed(specs, 32)


def test_a_part_that_is_nothing_gets_no_weight():
    (total,) = parsed(["l1 + l2"], 16)
    image = np.zeros((1, 16, 16, 3), np.float32)
    with pytest.raises(pj.InputError, match="give the weights"):
        weighed(total, image, image, seed=0)


# --- The commands --------------------------------------------------------------------------

BOTH = ("l1", "l1 + 0.1 * gradient + 0.1 * adversary")


def stopping_after(chunks, monkeypatch):
    """Sends SIGTERM when so many chunks of steps were begun."""
    taken = 0

    def length():
        nonlocal taken
        taken += 1
        if taken == chunks:
            os.kill(os.getpid(), signal.SIGTERM)
        return 1

    monkeypatch.setattr(training, "chunk_length", length)


def test_a_resumed_run_equals_an_unbroken_one(tmp_path, monkeypatch):
    """Bit for bit, the adversary too, after a SIGTERM under the second loss."""
    config = Config(**TINY, **SHORT, losses=BOTH, out=str(tmp_path))
    whole = super_resolution.run(dataclasses.replace(config, name="whole"))
    with monkeypatch.context() as patch:
        stopping_after(7, patch)
        with pytest.raises(loop.Interrupted, match="--name broken --resume"):
            super_resolution.run(dataclasses.replace(config, name="broken"))
    resumed = super_resolution.run(Config(out=str(tmp_path), name="broken", resume=True))
    for name in BOTH:
        same = jax.tree.map(np.array_equal, whole[name].params, resumed[name].params)
        assert all(jax.tree.leaves(same))
    one, other = (
        json.loads((tmp_path / "super-resolution" / name / "results.json").read_text())
        for name in ("whole", "broken")
    )
    assert one == other


def test_one_device_equals_many(tmp_path, monkeypatch, many_devices):
    config = Config(**TINY, **SHORT, losses=BOTH, out=str(tmp_path))
    assert jax.device_count() == 8
    many = super_resolution.run(dataclasses.replace(config, name="many"))
    one = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1],
                        axis_types=(jax.sharding.AxisType.Auto,))  # fmt: skip
    monkeypatch.setattr(training, "data_mesh", lambda count, **_: one)
    alone = super_resolution.run(dataclasses.replace(config, name="one"))
    for name in BOTH:
        for line, other in zip(many[name].metrics, alone[name].metrics, strict=True):
            for measure in ("loss", "psnr"):
                assert line[measure] == pytest.approx(other[measure], rel=1e-4)


def test_the_commands_learn_and_write_what_they_say(cli, tmp_path):
    """A small network, in a few steps: better than bicubic on pictures that it has not seen."""
    outcome = cli(
        *("super-resolution", "--name", "a", "--losses", *BOTH, "--measures", "l2"),
        *("--blocks", 1, "--width", 8, "--crop", 16, "--scale", 2, "--batch", 8),
        *("--steps", 150, "--further-steps", 10, "--learning-rate", 3e-3, "--snapshot-every", 50),
    )
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "runs" / "super-resolution" / "a"
    results = json.loads((folder / "results.json").read_text())
    means = results["means"]["embedded"]
    assert set(means) == {"bicubic", *BOTH}
    assert means["l1"]["psnr"] > means["bicubic"]["psnr"] + 0.3
    assert means["l1"]["l2"] < means["bicubic"]["l2"]
    assert set(results["pictures"]["embedded"]) == {"chelsea", "coffee"}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = lines[-1]
    assert last["loss"] == pytest.approx(
        last["l1"] + last["gradient"] + last["adversary"], rel=1e-4
    )
    assert 0 < last["opponent"] < 2
    page = (folder / "report.html").read_text()
    assert "Test pictures: embedded" in page
    assert all(name in page for name in ("bicubic", *BOTH, "original"))

    photo = tmp_path / "photo.png"
    pj.images.write(photo, pj.images.read(folder / "embedded-chelsea-l1.png")[:50, :70])
    outcome = cli(
        "upscale", photo, "--network", folder, "--loss", "l1", "--tile", 16, "--name", "b"
    )
    assert outcome.code == 0, outcome.err
    made = pj.images.read(tmp_path / "runs" / "upscale" / "b" / "photo.png")
    network_l1 = read(folder / "network-l1.safetensors", KIND)
    assert network_l1.loss == "l1"
    whole = enlarger(Enlarger(**network_l1.shape))(network_l1.params, pj.images.read(photo))
    assert made.shape == (100, 140, 3)
    assert np.abs(made.astype(int) - whole).max() <= 1
    assert (made != pj.images.resize(pj.images.read(photo), (100, 140))).any()

    outcome = cli("upscale", photo, "--network", folder, "--loss", "l2")
    assert outcome.code == 2
    assert "no network trained under 'l2'" in outcome.err
    outcome = cli("upscale", photo, "--network", tmp_path / "photo.png")
    assert outcome.code == 2
    assert "not a network" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "no folder nowhere"),
        (["--test", "nowhere"], "no folder nowhere"),
        (["--scale", 5], "--scale must be one of"),
        (["--resizer", "nearest"], "--resizer must be one of"),
        (["--crop", 4], "--crop must be at least 8"),
        (["--crop", 400], "smaller --crop"),
        (["--losses", "l1 + nothing"], "no distance 'nothing'"),
        (["--measures", "nothing"], "no distance 'nothing'"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_written(cli, tmp_path, arguments, message):
    outcome = cli("super-resolution", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "runs").exists()


def test_upscale_says_what_it_lacks(cli, tmp_path, picture):
    path = picture("a.png")
    assert "--network must be" in cli("upscale", path).err
    outcome = cli("upscale", path, "--network", tmp_path)
    assert outcome.code == 2
    assert "holds no network" in outcome.err
