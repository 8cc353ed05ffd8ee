"""Sets of images against those learned from: what each number must say of sets that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments.common import image_sets
from experiments.common.batches import floats
from experiments.common.image_sets import SetJudge, feature_distance, features_of, patches_by_level
from experiments.common.learned import learned_and_held_out
from experiments.common.neighbours import distances_to
from perceptual_jax.statistics import frechet_distance

LEARNED, HELD = (
    pictures.images
    for pictures in learned_and_held_out("embedded", size=32, count=60, held_out=0.3, seed=0)
)
FEATURES = feature_distance("random")


def judge_of():
    return SetJudge(LEARNED, group=6, neighbours=[pj.make("l2")], features=FEATURES, seed=0)


@pytest.fixture(scope="module")
def judge():
    return judge_of()


DISTRIBUTIONS = ("frechet vgg16-random", "kernel vgg16-random", "sliced wasserstein")


@pytest.mark.parametrize("damage", ["noise", "blur", "one image", "other colours"])
def test_images_held_out_are_nearer_than_damaged_ones(judge, damage):
    held = floats(HELD)[:12]
    rng = np.random.default_rng(0)
    blurred = held.reshape(-1, 4, 8, 4, 8, 3).mean(axis=(2, 4)).repeat(8, 1).repeat(8, 2)
    damaged = {
        "noise": np.clip(held + 0.2 * rng.standard_normal(held.shape), 0, 1),
        "blur": blurred,
        "one image": held[:1].repeat(12, axis=0),
        "other colours": held[..., ::-1],
    }[damage].astype(np.float32)
    sound, worse = judge(held).measures, judge(damaged).measures
    for name in DISTRIBUTIONS:
        assert worse[name] > sound[name]
    if damage == "blur":
        assert worse["sharpness"] < 0.5 * sound["sharpness"]


def test_images_learned_from_are_nearest_to_themselves(judge):
    rows = np.array([5, 0, 17, 30])
    found = judge(floats(LEARNED[rows]))
    np.testing.assert_array_equal(found.nearest["l2"], rows)
    assert found.measures["nearest l2"] == pytest.approx(0, abs=1e-6)


def test_numbers_are_means_over_groups_of_one_size(judge):
    held = floats(HELD)[:12]
    both, first, second = (judge(part).measures for part in (held, held[:6], held[6:]))
    by_hand = frechet_distance(
        features_of(FEATURES, FEATURES.init(jax.random.key(0)), held[:6]),
        features_of(FEATURES, FEATURES.init(jax.random.key(0)), floats(LEARNED)),
    )
    assert first["frechet vgg16-random"] == pytest.approx(by_hand, rel=1e-4)
    for name in DISTRIBUTIONS[:2]:
        assert both[name] == pytest.approx((first[name] + second[name]) / 2, rel=1e-4)


def test_a_set_smaller_than_a_group_has_no_distribution(judge):
    found = judge(floats(HELD[:3])).measures
    assert all(np.isnan(found[name]) for name in DISTRIBUTIONS)
    assert np.isfinite(found["nearest l2"])


def test_of_many_images_learned_from_some_make_the_distributions(monkeypatch):
    """But all are looked at for the nearest."""
    monkeypatch.setattr(image_sets, "_REFERENCES", 10)
    judge = judge_of()
    found = judge(floats(LEARNED))
    np.testing.assert_array_equal(found.nearest["l2"], np.arange(len(LEARNED)))
    assert np.isfinite(found.measures["frechet vgg16-random"])


def test_features_are_means_over_places():
    images = floats(HELD[:3])
    params = FEATURES.init(jax.random.key(0))
    (layer,) = FEATURES.embed(params, images).values()
    found = features_of(FEATURES, params, images)
    assert found.shape == (3, 512)
    np.testing.assert_allclose(found, layer.mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("size", "levels"), [(16, 1), (32, 2), (64, 3)])
def test_patches_are_of_every_level(size, levels):
    images = np.random.default_rng(0).random((3, size, size, 3), dtype=np.float32)
    found = patches_by_level(images, 0)
    assert [level.shape for level in found] == [(3, 32, 7 * 7 * 3)] * levels
    again = patches_by_level(images, 0)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_patches_are_of_their_image():
    """Of an image whose pixels are all different, a patch's pixel tells where it is from."""
    image = np.arange(16 * 16 * 3, dtype=np.float32).reshape(1, 16, 16, 3) / 768
    (found,) = patches_by_level(np.concatenate([image, image + 1]), 0)
    for which, patches in enumerate(found):
        for patch in patches.reshape(-1, 3, 7, 7):
            row, column = divmod(round(float(patch[0, 0, 0] - which) * 768) // 3, 16)
            wanted = image[0, row : row + 7, column : column + 7] + which
            np.testing.assert_allclose(patch, np.moveaxis(wanted, 2, 0), atol=1e-5)


@pytest.mark.parametrize("name", ["l2", "vgg16-random(layers=('conv1_1',))"])
def test_distances_to_many_images_are_those_of_pairs(name):
    rng = np.random.default_rng(0)
    queries, images = (
        rng.random((3, 16, 16, 3), np.float32),
        rng.random((70, 16, 16, 3), np.float32),
    )
    distance = pj.make(name)
    params = distance.init(jax.random.key(0))
    found = distances_to(distance, params, queries, images)
    assert found.shape == (3, 70)
    for query, row in zip(queries, found, strict=True):
        pairs = distance(params, jnp.asarray(query)[None], images)
        np.testing.assert_allclose(row, pairs, rtol=1e-4, atol=1e-6)
