"""Sorting: NumPy's form is XLA's, in values, order, gradient, and wherever it cannot be used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from perceptual_jax.ops.sorting import sliced_difference, sort_last

CALLBACK = "python_cpu_callback"


def values(*shape: int, steps: int = 0, dtype=jnp.float32) -> jax.Array:
    """Normal numbers; with `steps`, many of them equal."""
    drawn = jax.random.normal(jax.random.key(0), shape, dtype)
    return jnp.round(drawn * steps) / steps if steps else drawn


def weighted(sort):
    return lambda v: (jnp.cos(jnp.arange(v.size, dtype=v.dtype)).reshape(v.shape) * sort(v)).sum()


@pytest.mark.parametrize("steps", [0, 2], ids=["distinct", "ties"])
@pytest.mark.parametrize("shape", [(7,), (1,), (3, 5), (2, 3, 100)])
def test_sort_is_xlas(shape, steps):
    v = values(*shape, steps=steps)
    assert CALLBACK in jax.jit(sort_last).lower(v).as_text()
    np.testing.assert_array_equal(jax.jit(sort_last)(v), jnp.sort(v))
    gradient = jax.jit(jax.grad(weighted(sort_last)))(v)
    np.testing.assert_array_equal(gradient, jax.grad(weighted(lambda v: jnp.sort(v, axis=-1)))(v))


def test_float64():
    with jax.enable_x64(True):
        v = values(3, 50, steps=2, dtype=jnp.float64)
        assert sort_last(v).dtype == jnp.float64
        np.testing.assert_array_equal(
            jax.grad(weighted(sort_last))(v), jax.grad(weighted(jnp.sort))(v)
        )


def test_special_numbers():
    """Zeros of both signs are equal; NaN of both signs come last."""
    v = jnp.asarray([0.0, -0.0, 1.0, -np.nan, np.nan, -np.inf, -0.0, np.inf])
    np.testing.assert_array_equal(sort_last(v), np.sort(v))
    np.testing.assert_array_equal(
        jax.grad(weighted(sort_last))(v), jax.grad(weighted(lambda v: jnp.sort(v, stable=True)))(v)
    )


def test_transformations():
    v = values(4, 6, 5)
    for axis in range(3):
        got = jax.vmap(sort_last, in_axes=axis)(v)
        np.testing.assert_array_equal(got, jnp.sort(jnp.moveaxis(v, axis, 0), axis=-1))
    np.testing.assert_array_equal(jax.lax.map(sort_last, v), jnp.sort(v, axis=-1))
    with jax.disable_jit():
        np.testing.assert_array_equal(sort_last(v), jnp.sort(v, axis=-1))
    _, tangent = jax.jvp(sort_last, (v,), (v,))
    np.testing.assert_array_equal(tangent, jnp.sort(v, axis=-1))


def test_second_derivatives():
    """Of a sum of sorted cubes: sorting moves them, and no more."""
    v = values(7)
    cubes = lambda v: weighted(lambda v: sort_last(v) ** 3)(v)  # noqa: E731
    plain = lambda v: weighted(lambda v: jnp.sort(v) ** 3)(v)  # noqa: E731
    np.testing.assert_allclose(jax.hessian(cubes)(v), jax.hessian(plain)(v), rtol=1e-6)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_equal_samples_are_at_rest(power):
    v = sort_last(values(1, 2, 9))
    gradient = jax.grad(lambda v, w: sliced_difference(v, w, power).sum())(v, v)
    np.testing.assert_array_equal(gradient, 0)


def test_export_has_no_callback():
    """A program that leaves this process cannot call it back."""
    v = values(3, 5)
    exported = jax.export.export(jax.jit(sort_last))(v)
    assert CALLBACK not in exported.mlir_module()
    np.testing.assert_array_equal(exported.call(v), jnp.sort(v, axis=-1))


def test_what_is_spread_over_devices_stays_there():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    v = jax.device_put(values(16, 5, steps=2), spread)
    assert CALLBACK not in jax.jit(sort_last).lower(v).as_text()
    got = jax.jit(sort_last)(v)
    assert got.sharding.is_equivalent_to(spread, 2)
    np.testing.assert_array_equal(got, jnp.sort(np.asarray(v), axis=-1))
    mapped = jax.shard_map(
        sort_last, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data")
    )
    np.testing.assert_array_equal(jax.jit(mapped)(v), got)


def test_many_at_once():
    """Callbacks that run beside each other do not wait for each other."""
    v = values(8, 4, 20_000)

    @jax.jit
    def all_of(v):
        return sum(sort_last(part).sum() for part in v * jnp.arange(1.0, 9.0)[:, None, None])

    for _ in range(20):
        assert np.isfinite(all_of(v))


def test_quantiles_of_samples_of_other_sizes():
    """The same evenly spaced numbers, more of them: nearly no difference."""
    few, many = (jnp.linspace(0, 1, n)[None, None] for n in (100, 1000))
    assert sliced_difference(few, many, 1.0)[0] < 5e-3
    assert sliced_difference(few, few + 0.25, 2.0)[0] == pytest.approx(0.0625)
