"""`perceptual-jax activations`: units, gradients, patches and what is drawn, on crafted cases."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments.activations import Config, run
from experiments.activations.config import layers_of
from experiments.activations.maximise import maximised
from experiments.activations.neighbours import cut, detailed, nearest
from experiments.activations.saliency import guided_positive_part, unit_gradients
from experiments.activations.units import (
    Network,
    Unit,
    cropped,
    strongest,
    strongest_of_all,
    without_border,
)
from experiments.common.neighbours import distances_to
from experiments.common.networks import after_relu, before_relu
from experiments.common.spectrum import image_of
from perceptual_jax.backbones import BACKBONES, Backbone
from perceptual_jax.backbones.network import Conv, MaxPool, ReceptiveField, ReLU
from perceptual_jax.distances.features import imagenet_normalised

TOY = Backbone(
    "toy",
    (
        Conv("conv1", 3, 4, size=3, padding=1),
        ReLU("relu1"),
        MaxPool("pool1", size=2, stride=2),
        Conv("conv2", 4, 5, size=3, padding=1),
        ReLU("relu2"),
    ),
)

TINY = Config(
    network="alexnet",
    weights="random",
    layers=("relu1", "conv2"),
    channels_per_layer=2,
    size=64,
    patches=1,
    steps=2,
    distances=("l2", "gradient"),
    queries=1,
    neighbours=2,
    patch_side=16,
)


@pytest.fixture
def toy():
    return Network(TOY, TOY.random_params(jax.random.key(0)))


# --- Gradients -----------------------------------------------------------------------------


def test_the_guided_rule_is_its_definition():
    """g stays where x > 0 and g > 0; values are those of ReLU, NaN included."""
    x = jnp.array([-1.0, 0.0, 2.0, 3.0, -4.0, jnp.nan])
    gradient = jnp.array([1.0, 1.0, 5.0, -5.0, -1.0, 1.0])
    value, pull = jax.vjp(guided_positive_part, x)
    np.testing.assert_array_equal(value, [0, 0, 2, 3, 0, np.nan])
    np.testing.assert_array_equal(pull(gradient)[0], [0, 0, 5, 0, 0, 0])


def test_guided_backpropagation_by_hand(toy):
    """Layer by layer through the toy network, whose parts are pulled back one at a time."""
    images = jax.random.uniform(jax.random.key(1), (1, 8, 8, 3))
    answers = np.asarray(toy.features(images, "relu2")[0])
    row, column, channel = map(int, np.unravel_index(answers.argmax(), answers.shape))
    unit = Unit(0.0, 0, row, column)
    gradient = unit_gradients(
        toy, np.asarray(images), "relu2", channel, [unit], guided_positive_part
    )
    inputs, pulls = imagenet_normalised(2 * images - 1), []
    for layer in TOY.layers:
        fed = inputs
        inputs, pull = jax.vjp(
            lambda x, layer=layer: layer.apply(toy.params, x, jax.lax.Precision.HIGHEST), fed
        )
        pulls.append((layer, fed, pull))
    back = jnp.zeros_like(inputs).at[0, unit.row, unit.column, channel].set(1.0)
    for layer, fed, pull in reversed(pulls):
        back = back * (fed > 0) * (back > 0) if isinstance(layer, ReLU) else pull(back)[0]
    (wanted,) = jax.vjp(lambda x: imagenet_normalised(2 * x - 1), images)[1](back)
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)


def test_plain_saliency_is_the_gradient(toy):
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))
    row, column, channel = 2, 1, 3
    found = unit_gradients(toy, np.asarray(images), "conv2", channel, [Unit(0.0, 1, row, column)])
    wanted = jax.grad(lambda x: toy.features(x, "conv2")[1, row, column, channel])(images)[1:]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(found).max() > 0
    # And all of it is inside of what the unit sees.
    size = TOY.receptive_field("conv2").size
    inside = cropped(found[0], TOY.receptive_field("conv2"), row, column, outside=0.0)
    assert inside.shape == (size, size, 3)
    np.testing.assert_allclose(np.abs(inside).sum(), np.abs(found).sum(), rtol=1e-5)


# --- Units ---------------------------------------------------------------------------------


def test_layers_before_and_after_relu():
    assert after_relu("vgg16") == ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
    assert after_relu("alexnet") == ("relu1", "relu2", "relu3", "relu4", "relu5")
    assert after_relu("squeezenet1_1")[:2] == ("relu1", "fire3")
    assert before_relu(BACKBONES["vgg16"], "relu3_3") == "conv3_3"
    assert before_relu(BACKBONES["vgg16"], "pool3") == "pool3"
    assert before_relu(BACKBONES["alexnet"], "conv1") == "conv1"


def test_strongest_places_are_apart_and_positive():
    maps = np.full((6, 8), -1.0)
    maps[1, 1], maps[1, 2], maps[4, 1], maps[2, 6] = 5, 4, 3, 2
    found = strongest(maps, 5, apart=2, image=7)
    assert found == [Unit(5.0, 7, 1, 1), Unit(3.0, 7, 4, 1), Unit(2.0, 7, 2, 6)]
    assert strongest(np.zeros((3, 3)), 2, apart=1) == []


def test_what_a_unit_sees():
    """Fields that reach over the border are filled up with the value given."""
    image = np.arange(25.0).reshape(5, 5, 1)
    field = ReceptiveField(size=3, stride=2, centre=0.0)
    np.testing.assert_array_equal(cropped(image, field, 1, 1), image[1:4, 1:4])
    corner = cropped(image, field, 0, 2, outside=-1.0)
    np.testing.assert_array_equal(corner[..., 0], [[-1, -1, -1], [3, 4, -1], [8, 9, -1]])


def test_units_at_the_border_do_not_count():
    """A 5 px field may reach out by one pixel and not by two; one that is too large may."""
    maps = np.ones((1, 8, 8, 2))
    kept = without_border(maps, ReceptiveField(size=5, stride=1, centre=0.0), 8)
    wanted = np.zeros((8, 8))
    wanted[1:7, 1:7] = 1
    np.testing.assert_array_equal(kept, np.broadcast_to(wanted[None, :, :, None], maps.shape))
    np.testing.assert_array_equal(
        without_border(maps, ReceptiveField(size=50, stride=1, centre=0.0), 8), maps
    )


def test_the_strongest_patches_are_where_they_were_put(toy):
    """A red dot and a weaker one, in images of noise that is weaker still, for a red filter."""
    red = jnp.zeros((3, 3, 3, 4)).at[1, 1, 0, 2].set(1.0)
    params = toy.params | {"conv1": {"kernel": red, "bias": jnp.zeros(4)}}
    images = 0.5 + 0.1 * np.random.default_rng(0).random((5, 16, 16, 3), dtype=np.float32)
    images[3, 4, 9, 0] = 1.0
    images[1, 10, 5, 0] = 0.9
    batches = (images[i : i + 2] for i in range(0, 5, 2))
    ((first, second),) = strongest_of_all(Network(TOY, params), batches, "relu1", [2], 2)
    assert first[1:] == (3, 4, 9)
    assert second[1:] == (1, 10, 5)
    np.testing.assert_allclose(first.value, (1.0 - 0.485) / 0.229, rtol=1e-3)


# --- Patches -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["l2", "vgg16-random(layers=('conv1_1',))"])
def test_a_patch_is_nearest_to_itself_and_then_to_its_copy(name):
    images = np.random.default_rng(0).random((3, 40, 40, 3), dtype=np.float32)
    images[2, 8:24, 16:32] = images[0, 0:16, 8:24] + 0.01
    patches = cut(images, 16, 8)
    query = next(i for i, corner in enumerate(patches.corner) if tuple(corner) == (0, 8))
    np.testing.assert_array_equal(patches.pixels[query], images[0, 0:16, 8:24])
    distance = pj.make(name)
    params = distance.init(jax.random.key(0))
    (found,) = distances_to(distance, params, patches.pixels[[query]], patches.pixels)
    assert found.shape == (len(patches.pixels),)
    assert found.argmin() == query
    assert found[query] == pytest.approx(0, abs=1e-6)
    alone = distance(params, patches.pixels[[query]], patches.pixels)
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-6)
    first, *others = nearest(patches, found, query, 4)
    assert patches.image[first] == 2
    assert patches.corner[first].tolist() == [8, 16]
    assert not any(patches.overlap(query, other) for other in others)


def test_the_patches_asked_for_have_detail():
    images = np.full((2, 32, 32, 3), 0.5, np.float32)
    images[1, 16:, :16] = np.random.default_rng(0).random((16, 16, 3))
    patches = cut(images, 16, 16)
    (found,) = detailed(patches, 1, 1)
    assert patches.image[found] == 1
    assert patches.corner[found].tolist() == [16, 0]


# --- What is drawn -------------------------------------------------------------------------


def test_images_of_coefficients_are_grey_without_any():
    images = image_of(jnp.zeros((2, 7, 4, 3, 2)), 7)
    np.testing.assert_allclose(images, 0.5 * np.ones((2, 7, 7, 3)))


def test_drawn_patches_please_their_channels(toy):
    """More than a hundred random patches do; the same again gives the same."""
    options = {"steps": 40, "learning_rate": 0.1, "smoothness": 0.1, "key": jax.random.key(0)}
    told = []
    drawn = maximised(toy, "relu2", [0, 3], advance_bar=told.append, **options)
    assert sum(told) == 40
    side = drawn[0].image.shape[0]
    images = np.random.default_rng(0).random((100, side, side, 3), dtype=np.float32)
    answers = np.asarray(toy.features(images, "conv2"))
    for channel, patch in zip([0, 3], drawn, strict=True):
        assert patch.answer > answers[:, side // 4, side // 4, channel].max()
    again = maximised(toy, "relu2", [0, 3], advance_bar=told.append, **options)
    np.testing.assert_array_equal(drawn[1].image, again[1].image)


# --- The command ---------------------------------------------------------------------------


def test_a_page_with_a_prediction(tmp_path, picture):
    truth, guess = picture("truth.png", seed=0), picture("guess.png", seed=1)
    for seed in range(3):
        picture(f"data/{seed}.png", seed=seed)
    config = dataclasses.replace(
        TINY,
        image=str(truth),
        prediction=str(guess),
        data=str(tmp_path / "data"),
        out=str(tmp_path),
        name="a",
    )
    results = run(config)
    folder = tmp_path / "activations" / "a"
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    page = (folder / "report.html").read_text()
    for text in ("relu1 · prediction", "conv2 · difference", "gradient", "guided", "Nearest"):
        assert text in page
    for section in ("feature-maps", "strongest-patches", "drawn-patches", "nearest-patches"):
        assert pj.images.read(folder / f"{section}.png").std() > 10
    assert all(d > 0 for d in results["feature-maps"]["relu1"]["difference"])
    assert len(results["strongest-patches"]["conv2"]) == TINY.channels_per_layer
    assert results["receptive-fields"]["conv2"]["size"] == 51


def test_sections_can_be_left_out(tmp_path):
    config = dataclasses.replace(
        TINY, layers=("relu1",), channels=(3,), steps=0, queries=0, out=str(tmp_path), name="a"
    )
    results = run(config)
    assert results["feature-maps"]["relu1"]["channels"] == [3]
    assert not {"drawn-patches", "nearest-patches"} & set(results)


def test_default_layers_follow_the_network():
    assert layers_of(Config(network="alexnet")) == ("relu1", "relu2", "relu3", "relu4", "relu5")
    assert layers_of(Config(layers=("conv3_1",))) == ("conv3_1",)


@pytest.mark.slow
def test_the_other_eye_is_what_lpips_finds(weights_store, tmp_path):
    """Of a cat's eye, and not what l2 does; the page of the real network."""
    config = Config(
        layers=("relu1_2", "relu3_3"),
        channels_per_layer=1,
        patches=1,
        steps=4,
        size=160,
        queries=1,
        distances=("l2", "lpips-alex"),
        neighbours=1,
        out=str(tmp_path),
    )
    nearest_patches = run(config)["nearest-patches"]
    (asked,) = nearest_patches
    (found,) = asked["lpips-alex"]
    assert found["image"] == "the image"
    assert abs(found["corner"][0] - 32) <= 16
    assert found["corner"][1] >= 96
    assert asked["l2"][0]["corner"] != found["corner"]
