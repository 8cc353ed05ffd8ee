"""`perceptual-jax style-transfer`: its parts, that it resumes exactly, and on any devices."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments import style_transfer
from experiments.common import loop, optimise
from experiments.common.paintings import PAINTINGS
from experiments.common.pictures import fitted, named_pictures, sheet
from experiments.style_transfer import Config, run
from experiments.style_transfer.colours import grey, with_colours_of, with_luma_like
from experiments.style_transfer.config import GRAM
from experiments.style_transfer.drawing import short_name
from experiments.style_transfer.loss import any_size, style_loss, targets_for
from experiments.style_transfer.report import correlations

GRAMS = "alexnet-random(layers=('relu1',), metric='gram')"
MEANS = "mmd-rff(window=None, num_features=32)"
TINY = Config(
    content_distance="l2", style_distance=(MEANS,), size=64, scales=1, steps=6, snapshot_every=2
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A wide content, a dark style and a light one, of other sizes: `{name: path}`."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    pictures = {"scene": ((48, 64), 1), "dots": ((64, 40), 3), "lines": ((40, 64), 1 / 3)}
    for name, (size, power) in pictures.items():
        blocks = rng.random((size[0] // 8, size[1] // 8, 3)) ** power
        smooth = pj.images.resize(pj.images.to_uint8(blocks), size)
        pj.images.write(folder / f"{name}.png", smooth)
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture
def tiny(files, tmp_path):
    return dataclasses.replace(
        TINY,
        content=(files["scene"],),
        style=(files["dots"], files["lines"]),
        out=str(tmp_path),
    )


def test_every_content_is_drawn_in_every_style(tiny, files, tmp_path):
    """Also in a style that it is itself, which there is nothing to do for."""
    config = dataclasses.replace(
        tiny, content=(files["scene"], files["dots"]), style_distance=(GRAMS, MEANS), name="a"
    )
    drawn = run(config)
    assert {(content, style) for _, content, style in drawn} == {
        (content, style) for content in ("scene", "dots") for style in ("dots", "lines")
    }
    for (_, content, style), transfer in drawn.items():
        assert transfer.image.shape == ((48, 64, 3) if content == "scene" else (64, 40, 3))
        assert transfer.steps == [2, 4, 6]
        assert transfer.losses["style"][-1] < config.style_weight * (
            0.1 if content == style else 0.9
        )
    folder = tmp_path / "style-transfer" / "a"
    assert (folder / "report.html").stat().st_size > 10_000
    grids = sorted(folder.glob("grid-*.png"))
    assert [pj.images.read(grid).shape for grid in grids] == [(3 * 70 - 6, 3 * 70 - 6, 3)] * 2
    results = json.loads((folder / "results.json").read_text())["transfers"]
    assert all(result["seconds_per_step"] > 0 for result in results)


@pytest.mark.parametrize(("optimiser", "scales"), [("adam", 2), ("lbfgs", 1)])
def test_a_resumed_run_equals_an_unbroken_one(tiny, monkeypatch, optimiser, scales):
    """Bit for bit, after a stop at the second scale, or in the middle of one."""
    config = dataclasses.replace(tiny, optimiser=optimiser, scales=scales)
    whole = run(dataclasses.replace(config, name="whole"))
    answers = iter([False] * 4 + [True])

    class Stopping:
        def __enter__(self):
            return lambda: next(answers)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(style_transfer, "interruptible", Stopping)
    with pytest.raises(loop.Interrupted, match="--name broken --resume"):
        run(dataclasses.replace(config, name="broken"))
    monkeypatch.undo()
    resumed = run(Config(out=config.out, name="broken", resume=True))
    for key, transfer in whole.items():
        np.testing.assert_array_equal(transfer.image, resumed[key].image)


def test_one_device_equals_many_and_one_at_a_time(tiny, monkeypatch):
    """From noise, since Adam follows rounding where a slope is nearly 0."""
    assert jax.device_count() == 8
    config = dataclasses.replace(tiny, start="noise", steps=3)
    many = run(dataclasses.replace(config, name="many"))
    alone = run(dataclasses.replace(config, name="alone", side_by_side=1))
    monkeypatch.setattr(optimise, "shard_leading", lambda tree, count: tree)
    one = run(dataclasses.replace(config, name="one"))
    for key, transfer in many.items():
        for other in (alone[key], one[key]):
            apart = np.abs(transfer.image - other.image)
            assert (apart > 1e-5).mean() < 1e-3
            assert apart.max() < 4 * config.learning_rate


def test_a_blend_of_one_style_is_that_style(tiny):
    single = run(dataclasses.replace(tiny, name="single"))
    blend = run(dataclasses.replace(tiny, name="blend", style_weights=(0.0, 1.0)))
    (_, content, style), transfer = next(iter(blend.items()))
    assert (content, style) == ("scene", "blend")
    wanted = next(t for (_, _, style), t in single.items() if style == "lines")
    np.testing.assert_allclose(transfer.losses["style"], wanted.losses["style"], rtol=1e-4)


def test_a_style_distance_of_places_says_that_styles_are_resized(tiny, capsys):
    drawn = run(dataclasses.replace(tiny, style_distance=("l2",), name="a"))
    assert "styles are cropped to the content's aspect" in capsys.readouterr().out
    assert len(drawn) == 2


@pytest.mark.parametrize(
    ("name", "free"),
    [
        (GRAMS, True),
        ("alexnet-random(metric='gram-trace')", True),
        ("alexnet-random(metric='swd')", True),
        ("mmd-rff(window=None)", True),
        ("swd", True),
        ("swd + 0.5 * alexnet-random(metric='gram')", True),
        ("swd + 0.5 * ssim", False),
        ("mmd-rff", False),
        ("ssim", False),
        ("alexnet-random", False),
    ],
)
def test_which_distances_compare_images_of_any_sizes(name, free):
    assert any_size(pj.make(name)) == free


def test_terms_are_relative():
    """1 at mid-grey for the content and at the content for the style, whatever the distances."""
    rng = np.random.default_rng(0)
    content, style = rng.random((2, 32, 40, 3), dtype=np.float32)
    l2, swd = pj.make("l2"), pj.make("swd")
    params = swd.init(jax.random.key(0))
    targets = targets_for(l2, swd, params, content, [[(style[:20], 1.0)]])
    config = Config(content_weight=2.0, style_weight=3.0, variation_weight=4.0)
    loss = style_loss(config, l2, swd)
    at_grey = loss((params, targets), jnp.full((1, 32, 40, 3), 0.5))
    at_content = loss((params, targets), jnp.asarray(content)[None])
    np.testing.assert_allclose(at_grey["content"], 2.0, rtol=1e-5)
    np.testing.assert_allclose(at_content["style"], 3.0, rtol=1e-5)
    np.testing.assert_allclose(at_content["variation"], 4.0, rtol=1e-5)
    assert at_content["content"] == 0
    without = style_loss(dataclasses.replace(config, variation_weight=0), l2, swd)
    assert set(without((params, targets), jnp.asarray(content)[None])) == {"content", "style"}


def test_captions_name_the_parts_of_sums_by_their_metrics():
    gram = "vgg16(layers=('relu1_1', 'relu2_1'), metric='gram')"
    assert short_name(gram) == "vgg16 gram"
    assert short_name(f"{gram} + 0.5 * mmd++") == "vgg16 gram + 0.5 * mmd++"
    assert short_name("lp(p=3.0)") == "lp(p=3.0)"


def test_colours_are_kept():
    """The luma is the picture's; the two axes of colour are the content's."""
    rng = np.random.default_rng(0)
    content = rng.uniform(0.4, 0.6, (8, 9, 3)).astype(np.float32)
    image = grey(rng.uniform(0.4, 0.6, (8, 9, 3)).astype(np.float32))
    found = with_colours_of(content, image)
    np.testing.assert_allclose(grey(found), image, atol=2e-3)
    np.testing.assert_allclose(found - grey(found), content - grey(content), atol=2e-3)


def test_a_style_in_grey_is_as_light_as_the_content():
    rng = np.random.default_rng(0)
    content = rng.uniform(0.4, 0.7, (16, 16, 3)).astype(np.float32)
    moved = with_luma_like(rng.random((20, 10, 3), dtype=np.float32), content)
    np.testing.assert_allclose(moved.mean(), grey(content).mean(), atol=1e-4)
    np.testing.assert_allclose(moved.std(), grey(content).std(), atol=1e-4)


def test_keeping_colours_keeps_them(tiny):
    drawn = run(dataclasses.replace(tiny, keep_colours=True, name="a"))
    content = named_pictures("--content", tiny.content, ())["scene"].astype(np.float32) / 255
    image = next(iter(drawn.values())).image
    inside = ((image > 0.01) & (image < 0.99)).all(axis=-1)
    assert inside.mean() > 0.1
    np.testing.assert_allclose(
        (image - grey(image))[inside], (content - grey(content))[inside], atol=5e-3
    )


def test_correlations_have_a_diagonal_of_ones_and_no_scale():
    features = np.random.default_rng(0).random((50, 4))
    features[:, 2] = 0
    gram = features.T @ features
    found = correlations(gram)
    np.testing.assert_allclose(np.diagonal(found), [1, 1, 0, 1])
    np.testing.assert_allclose(found, correlations(7 * gram))
    assert np.isfinite(found).all()


def test_a_sheet_keeps_aspects():
    black = np.zeros((10, 20, 3), np.uint8)
    found = sheet([[None, black], [black.transpose(1, 0, 2)]], 40)
    assert found.shape == (86, 86, 3)
    assert (found[:40, :40] == 255).all()
    assert (found[10:30, 46:] == 0).all()
    assert (found[:10, 46:] == 255).all()
    assert (found[46:, 10:30] == 0).all()
    assert fitted(black, 64) == (32, 64)


@pytest.mark.parametrize("name", PAINTINGS)
def test_paintings_are_colourful_and_the_same_each_time(name):
    picture = PAINTINGS[name]()
    assert picture.dtype == np.uint8
    assert picture.shape == (512, 512, 3)
    assert picture.std(axis=(0, 1)).min() > 20
    assert np.ptp(picture.astype(int), axis=-1).mean() > 20
    np.testing.assert_array_equal(picture, PAINTINGS[name]())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--content", "nowhere.png"], "there is no file or folder nowhere.png"),
        (["--style", "strokes", "strokes"], "names 'strokes' twice"),
        (["--style-weights", "1"], "one for each of the 2 styles"),
        (["--style-weights", "0", "0"], "one of them more"),
        (["--steps", "1"], "at least --scales"),
        (["--content-weight", "0", "--style-weight", "0"], "cannot both be 0"),
        (["--style-distance", "swd", "swd"], "each once"),
        (["--style-distance", "sdw"], "did you mean 'swd'?"),
        (["--scales", "8"], "is 2x2 at the coarsest scale"),
        (["--learning-rate", "nan"], "--learning-rate must be"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(cli, tmp_path, arguments, message):
    outcome = cli("style-transfer", *arguments)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert not list(tmp_path.rglob("runs"))


@pytest.mark.slow
def test_trained_grams_transfer_style_and_the_scene_stays(weights_store, tmp_path):
    """Within 60 steps most of the style is there, and the content is nearer than other pictures.

    Grey is no measure of it: it has none of the features that strokes add.
    """
    config = Config(content=("chelsea",), style=("strokes",), size=96, steps=60, out=str(tmp_path))
    (transfer,) = run(config).values()
    assert config.style_distance == (GRAM,)
    assert transfer.losses["style"][-1] < 0.25 * config.style_weight
    pictures = named_pictures("--content", ("chelsea", "rocket", "strokes"), ())
    x, *others = (
        pj.images.resize(each, (96, 96))[None] / np.float32(255) for each in pictures.values()
    )
    distance = pj.make(config.content_distance)
    params = distance.init(jax.random.key(0))
    grey, photograph, style = (
        float(distance(params, y, x)[0]) for y in (np.full_like(x, 0.5), *others)
    )
    assert transfer.losses["content"][-1] < 0.9 * photograph / grey
    assert transfer.losses["content"][-1] < 0.6 * style / grey
