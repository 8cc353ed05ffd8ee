"""Samplers of codes: each fits what it is given, and what lies between two draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import mappers, samplers
from experiments.common.batches import in_batches
from experiments.common.mesh import shard_leading

NETWORKS = ("imle", "gmmn")


def ring(count, seed):
    """Points on a circle, and a little beside it."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, count)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (circle + 0.05 * rng.standard_normal((count, 2))).astype(np.float32)


def two_modes(count, seed):
    """Three tenths of the points around (-2, 0), the others around (2, 0)."""
    rng = np.random.default_rng(seed)
    middle = np.where(rng.random(count) < 0.3, -2.0, 2.0)
    beside = 0.2 * rng.standard_normal((count, 2))
    return (beside + np.stack([middle, 0 * middle], axis=1)).astype(np.float32)


def draw(kind, codes, count=1000, **options):
    sampler = samplers.fitted(kind, codes, seed=0, **options)
    return sampler.codes(samplers.noise(sampler, count, seed=1))


def far_from(drawn, codes):
    """The discrepancy under kernels of all widths."""
    bandwidths = (0.25, 0.5, 1.0, 2.0, 4.0)
    return float(mappers.discrepancy(jnp.asarray(drawn), jnp.asarray(codes), bandwidths))


@pytest.fixture(autouse=True)
def one_device(request, monkeypatch):
    """Programs for eight would be compiled for nothing."""
    if "spread" not in request.node.name:
        monkeypatch.setattr(jax, "device_count", lambda: 1)
        monkeypatch.setattr(jax, "local_device_count", lambda: 1)


# --- The normal distribution ---------------------------------------------------------------


@pytest.mark.parametrize("count", [50, 3], ids=["of full rank", "fewer than numbers"])
def test_normal_draws_have_the_codes_mean_and_covariance(count):
    rng = np.random.default_rng(0)
    mixed = np.array([[1, 2, 0, 1], [0, 1, 1, 0], [0, 0, 0.1, 2], [1, 0, 0, 1]])
    codes = rng.standard_normal((count, 4)) @ mixed + 5
    drawn = draw("normal", codes, 200_000)
    np.testing.assert_allclose(drawn.mean(axis=0), codes.mean(axis=0), atol=0.05)
    covariance = np.cov(codes.T)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.02 * np.abs(covariance).max())


# --- Networks ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("shape", [ring, two_modes])
def test_networks_fit_what_no_normal_distribution_does(kind, shape):
    """Nearer to points of the same shape that they were not fitted to; every part is covered."""
    codes, others = shape(300, 0), shape(1000, 1)
    drawn = draw(kind, codes, steps=2000)
    assert np.isfinite(drawn).all()
    assert far_from(drawn, others) < 0.8 * far_from(draw("normal", codes), others)
    if shape is two_modes:
        inside = np.abs(drawn - [[-2, 0]]).max(axis=1) < 1, np.abs(drawn - [[2, 0]]).max(axis=1) < 1
        left, right = (part.mean() for part in inside)
        assert left > 0.1
        assert right > 0.3
        # IMLE leaves some between the modes, where no code is nearest to them; the normal
        # distribution has half of all there.
        assert left + right > {"imle": 0.55, "gmmn": 0.7}[kind]
    else:
        parts, _ = np.histogram(np.arctan2(drawn[:, 1], drawn[:, 0]), bins=8, range=(-np.pi, np.pi))
        assert parts.min() > 0.3 * parts.mean()


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_same_seed_gives_the_same_codes_and_another_gives_others(kind):
    codes = ring(20, 0)
    first, again = (draw(kind, codes, 5, steps=4) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = samplers.fitted(kind, codes, steps=4, seed=1)
    assert (other.codes(samplers.noise(other, 5, seed=1)) != first).all()


@pytest.mark.parametrize("kind", NETWORKS)
def test_where_codes_lie_and_how_large_they_are_changes_nothing(kind):
    codes = two_modes(40, 0)
    drawn = draw(kind, codes, 5, steps=4)
    moved = draw(kind, 1 + codes / 4, 5, steps=4)
    np.testing.assert_allclose((moved - 1) * 4, drawn, atol=1e-3)


@pytest.mark.parametrize("kind", ["normal", *NETWORKS])
def test_codes_that_are_all_one_are_drawn_again(kind):
    codes = np.full((3, 5), 0.25, np.float32)
    np.testing.assert_allclose(draw(kind, codes, 4, steps=3), codes[:1] + np.zeros((4, 5)))


@pytest.mark.parametrize("kind", ["normal", *NETWORKS])
def test_unit_norm_codes_are_drawn_on_the_sphere(kind):
    drawn = draw(kind, samplers.unit(ring(20, 0)), 6, steps=3, unit_norm=True)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("kind", NETWORKS)
def test_progress_is_told_of_every_step(kind):
    told = []
    draw(kind, ring(8, 0), 2, steps=7, advance=told.append)
    assert sum(told) == 7


def test_networks_are_as_wide_as_they_are_said_to_be():
    shapes = jax.eval_shape(mappers.Mapper(512).init, jax.random.key(0), jnp.zeros((1, 64)))
    kernels = [layer["kernel"].shape for layer in shapes["params"].values()]
    assert kernels == [(64, 128), (128, 128), (128, 512)]


# --- What they are made of -----------------------------------------------------------------


def doubled(params, noise):
    return params * noise[:, :3]


@pytest.mark.parametrize("spread", [False, True], ids=["one device", "spread"])
def test_the_nearest_of_all_blocks_is_found(spread):
    """By comparing with every draw, block by block, made again from the key."""
    codes = jax.random.normal(jax.random.key(1), (16, 3))
    key, scale = jax.random.key(0), jnp.asarray(2.0)
    given = shard_leading(codes, 16) if spread else codes
    assert len(given.sharding.device_set) == (8 if spread else 1)
    found = mappers.nearest_noise(doubled, scale, given, key, 20, block=8)
    blocks = [jax.random.normal(jax.random.fold_in(key, k), (8, 64)) for k in range(3)]
    noise = np.concatenate(blocks)
    apart = np.square(np.asarray(codes)[:, None] - 2 * noise[None, :, :3]).sum(axis=-1)
    assert len(set(apart.argmin(axis=1) // 8)) == 3  # Of every block there is one.
    np.testing.assert_array_equal(found, noise[apart.argmin(axis=1)])


def test_discrepancy_is_its_definition():
    x, y = np.asarray(ring(6, 0), np.float64), np.asarray(two_modes(4, 1), np.float64)

    def k(u, v):
        return np.mean([np.exp(-np.square(u - v).sum() / (2 * b**2)) for b in (0.5, 2.0)])

    within = [
        np.mean([k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j])
        for s in (x, y)
    ]
    wanted = sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])
    found = mappers.discrepancy(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), (0.5, 2))
    assert float(found) == pytest.approx(wanted, rel=1e-4)


# --- Between two ---------------------------------------------------------------------------


def test_a_line_has_equal_steps_and_both_ends():
    first, last = np.eye(2, 4, dtype=np.float32)
    line = samplers.line(first, last, 8)
    np.testing.assert_array_equal(line[[0, -1]], [first, last])
    np.testing.assert_allclose(
        np.diff(line, axis=0), np.tile((last - first) / 7, (7, 1)), atol=1e-6
    )


def test_noise_between_two_draws_is_as_large_as_draws_are():
    """Unlike in the middle of a line, whose square is half as large on average."""
    first, last = np.random.default_rng(0).standard_normal((2, 20_000))
    arc = samplers.arc(first, last, 5)
    np.testing.assert_allclose(arc[[0, -1]], [first, last], atol=1e-12)
    np.testing.assert_allclose(np.square(arc).mean(axis=1), 1, atol=0.05)


def test_drawn_are_samples_and_what_lies_between_the_first_two():
    codes = ring(20, 0)
    found = samplers.drawn(
        ("normal", "gmmn"), codes, lambda codes: codes, count=6, between=4, seed=2, steps=3
    )
    assert list(found.samples) == list(found.interpolations) == ["normal", "gmmn"]
    for kind in found.samples:
        assert found.samples[kind].shape == (6, 2)
        ends = found.interpolations[kind][[0, -1]]
        np.testing.assert_allclose(ends, found.samples[kind][:2], atol=1e-6)


# --- Batches -------------------------------------------------------------------------------


def test_in_batches_is_the_function_of_all():
    array = np.arange(14.0).reshape(7, 2)
    seen = []

    def twice(part):
        seen.append(part.shape)
        return {"twice": 2 * part, "sum": part.sum(axis=1)}

    found = in_batches(twice, array, 3)
    assert set(seen) == {(3, 2)}
    np.testing.assert_array_equal(found["twice"], 2 * array)
    np.testing.assert_array_equal(found["sum"], array.sum(axis=1))
