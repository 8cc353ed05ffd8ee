"""Measures of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from perceptual_jax import statistics

IMAGES = jax.random.uniform(jax.random.key(0), (3, 9, 12, 3))


def test_gradient_energy_is_its_definition():
    pixels = np.asarray(IMAGES, np.float64)
    wanted = [
        np.square(np.diff(p, axis=0)).mean() + np.square(np.diff(p, axis=1)).mean() for p in pixels
    ]
    np.testing.assert_allclose(statistics.gradient_energy(IMAGES), wanted, rtol=1e-5)


def test_gradient_energy_does_not_depend_on_the_value_range():
    signed = statistics.gradient_energy(2 * IMAGES - 1, value_range=(-1.0, 1.0))
    np.testing.assert_allclose(signed, statistics.gradient_energy(IMAGES), rtol=1e-5)


def test_relative_sharpness():
    """1 on average for the references themselves; less for a blurred image."""
    sharp = statistics.relative_sharpness(IMAGES, IMAGES)
    np.testing.assert_allclose(sharp.mean(), 1, rtol=1e-5)
    blurred = (IMAGES[:, 1:] + IMAGES[:, :-1]) / 2
    assert (statistics.relative_sharpness(blurred, IMAGES) < sharp).all()


def test_flat_references_are_infinitely_dull():
    assert jnp.isinf(statistics.relative_sharpness(IMAGES, jnp.ones((1, 4, 4, 3)))).all()


def test_one_pixel_has_no_gradient():
    with pytest.raises(pj.InputError, match="at least 2x2"):
        statistics.gradient_energy(IMAGES[:, :1])


# --- Human judgements ----------------------------------------------------------------------


def test_agreement_with_people():
    judge = [0.0, 0.25, 1.0, 0.5]
    d0 = np.array([[0.1, 0.2, 0.3, 0.1], [0.2, 0.2, 0.2, 0.2]])
    d1 = np.array([[0.2, 0.1, 0.1, 0.9], [0.1, 0.2, 0.3, 0.2]])
    np.testing.assert_array_equal(
        statistics.two_afc_agreement(d0, d1, judge), [[1, 0.25, 1, 0.5], [0, 0.5, 0, 0.5]]
    )
    np.testing.assert_array_equal(statistics.human_ceiling(judge), [1, 0.25**2 + 0.75**2, 1, 0.5])


def test_jnd_is_the_official_area():
    """As the authors' code has it: an envelope over precision, padded to recall 0 and 1."""
    rng = np.random.default_rng(0)
    distances, same = rng.random((3, 50)), rng.integers(0, 4, 50) / 3

    def official(distances, same):
        same = same[np.argsort(distances)]
        right, wrong = np.cumsum(same), np.cumsum(1 - same)
        precision = np.concatenate([[0], right / (right + wrong), [0]])
        recall = np.concatenate([[0], right / same.sum(), [1]])
        for i in range(precision.size - 1, 0, -1):
            precision[i - 1] = max(precision[i - 1], precision[i])
        steps = np.flatnonzero(recall[1:] != recall[:-1])
        return ((recall[steps + 1] - recall[steps]) * precision[steps + 1]).sum()

    got = statistics.jnd_average_precision(distances, same)
    np.testing.assert_allclose(got, [official(row, same) for row in distances], rtol=1e-12)
    assert statistics.jnd_average_precision(1 - same, same) > got.max()


def test_intervals_hold_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        values = rng.random((1, 100))
        drawn = statistics.bootstrap_means(values, samples=200, seed=seed)
        found = statistics.interval(values.mean(axis=1), drawn)
        held += found.low[0] < 0.5 < found.high[0]
    assert 180 <= held <= 199


def test_rows_are_drawn_alike():
    """What is always .1 better is .1 better in every data set drawn; weights count."""
    values = np.random.default_rng(0).random(30)
    drawn = statistics.bootstrap_means(np.stack([values, values + 0.1]), samples=50)
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 0.1, rtol=1e-12)
    only_first = statistics.bootstrap_means([[1.0, 0.0]], [1.0, 1e-12], samples=50, seed=1)
    assert np.isin(only_first.round(6), [0, 1]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.two_afc_agreement([1.0], [1.0], [1.5]), r"in \[0, 1\]"),
        (lambda: statistics.two_afc_agreement([1.0, 2.0], [1.0, 2.0], [1.0]), "must be"),
        (lambda: statistics.two_afc_agreement([np.nan], [1.0], [1.0]), "NaN"),
        (lambda: statistics.human_ceiling([]), "at least one"),
        (lambda: statistics.jnd_average_precision([1.0, 2.0], [0.0, 0.0]), "nobody"),
        (lambda: statistics.jnd_average_precision([np.nan], [1.0]), "NaN"),
        (lambda: statistics.jnd_average_precision([1.0, 2.0], [1.0]), "must be"),
    ],
)
def test_judgements_that_cannot_be(call, message):
    with pytest.raises(pj.InputError, match=message):
        call()
