"""Measures of images, of sets of them, and of distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

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


def test_psnr():
    half = np.full((2, 4, 4, 3), 0.5, np.float32)
    assert statistics.psnr(half, half + 0.1) == pytest.approx(20, abs=1e-4)
    assert statistics.psnr(half, half) == np.inf
    assert statistics.psnr(half, half, most=100.0) == 100
    assert statistics.psnr(half, half + 1e-7, most=100.0) == 100
    # Of l2: -10 log10 of a quarter of it.
    x, y = np.asarray(IMAGES[:1]), np.asarray(IMAGES[1:2])
    distance = float(pj.make("l2")({}, x, y)[0])
    assert statistics.psnr(x, y) == pytest.approx(10 * np.log10(4 / distance), abs=1e-4)


def test_psnr_refuses_what_is_not_from_0_to_1_or_not_alike():
    images = np.asarray(IMAGES)
    with pytest.raises(pj.InputError, match=r"made must be floats.*uint8"):
        statistics.psnr(np.zeros((4, 4), np.uint8), np.zeros((4, 4)))
    with pytest.raises(pj.InputError, match="must be alike"):
        statistics.psnr(images, images[:1])


# --- Sets ----------------------------------------------------------------------------------


def normal_points(count, size, seed, shift=0.0, spread=1.0):
    """Points with their own covariance."""
    rng = np.random.default_rng(seed)
    return shift + spread * rng.standard_normal((count, size)) @ rng.standard_normal((size, size))


@pytest.mark.parametrize(("n", "m"), [(40, 60), (40, 5), (3, 4)], ids=["many", "mixed", "few"])
def test_frechet_distance_is_that_of_the_formula(n, m):
    """With SciPy's root of a matrix, also where covariances lack rank."""
    x, y = normal_points(n, 6, 0), normal_points(m, 6, 1, shift=0.5)
    a, b = np.cov(x.T), np.cov(y.T)
    # The root of a matrix without full rank exists where it is symmetric: (A^.5 B A^.5)^.5.
    half = scipy.linalg.sqrtm(a + 1e-13 * np.eye(6))
    root = scipy.linalg.sqrtm(half @ b @ half + 1e-13 * np.eye(6))
    wanted = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a + b - 2 * root.real)
    assert statistics.frechet_distance(x, y) == pytest.approx(wanted, rel=1e-5)
    assert statistics.frechet_distance(y, x) == pytest.approx(wanted, rel=1e-5)


def test_frechet_distance_of_normals_is_the_squared_wasserstein_distance():
    """Of samples of N(0, 1) and N(3, 2^2) in one dimension: 3^2 + (2 - 1)^2."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((100_000, 1)), 3 + 2 * rng.standard_normal((100_000, 1))
    assert statistics.frechet_distance(x, y) == pytest.approx(10, rel=0.02)


def test_frechet_distance_of_a_set_to_itself_is_0_and_more_for_small_ones():
    x = normal_points(200, 6, 0)
    assert statistics.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    small, large = (statistics.frechet_distance(x[:100], x[100 : 100 + k]) for k in (5, 100))
    assert small > 2 * large > 0


def test_kernel_distance_is_its_definition():
    x, y = normal_points(7, 3, 0), normal_points(5, 3, 1)
    k = lambda u, v: (u @ v / 3 + 1) ** 3  # noqa: E731
    within = [
        np.mean([k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j])
        for s in (x, y)
    ]
    wanted = sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert statistics.kernel_distance(x, y) == pytest.approx(wanted)


def test_kernel_distance_in_blocks_is_the_same(monkeypatch):
    x, y = normal_points(7, 3, 0), normal_points(5, 3, 1)
    whole = statistics.kernel_distance(x, y)
    monkeypatch.setattr(statistics, "_ROWS", 2)
    assert statistics.kernel_distance(x, y) == pytest.approx(whole, rel=1e-12)


def test_kernel_distance_has_no_bias():
    """0 on average for sets of one distribution, within three standard errors."""
    rng = np.random.default_rng(0)
    drawn = [statistics.kernel_distance(*rng.standard_normal((2, 6, 3))) for _ in range(500)]
    assert abs(np.mean(drawn)) < 3 * np.std(drawn) / np.sqrt(500)
    assert 0.3 < np.mean(np.array(drawn) < 0) < 0.8


def test_sliced_wasserstein_is_scipys_along_every_direction():
    x, y = normal_points(30, 4, 0), normal_points(17, 4, 1, shift=1.0)
    directions = np.random.default_rng(5).standard_normal((4, 9))
    directions /= np.linalg.norm(directions, axis=0)
    wanted = [scipy.stats.wasserstein_distance(x @ d, y @ d) for d in directions.T]
    found = statistics.sliced_wasserstein(x, y, num_projections=9, seed=5)
    assert found == pytest.approx(np.mean(wanted), rel=1e-12)
    assert statistics.sliced_wasserstein(x, x) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "measure",
    [
        statistics.frechet_distance,
        statistics.kernel_distance,
        statistics.sliced_wasserstein,
    ],
)
def test_sets_that_cannot_be_compared(measure):
    points = normal_points(4, 3, 0)
    for x, y in [(points, points[:1]), (points, points[:, :2]), (points[0], points)]:
        with pytest.raises(pj.InputError, match="at least two"):
            measure(x, y)
    for bad in (np.nan, np.inf):
        with pytest.raises(pj.InputError, match="finite"):
            measure(points, [[bad, 0, 0], [0, 0, 0]])


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
