"""DCGAN's networks: the normalisation's own gradient, running averages, shapes and sizes."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import batch_normalisation
from experiments.common.batch_normalisation import normalise
from experiments.common.generators import (
    Autoencoder,
    Encoder,
    Generator,
    network,
    parameter_count,
    widths,
)
from perceptual_jax.errors import InputError


def plainly(images, scale, shift, slope):
    mean = images.mean(axis=(0, 1, 2), keepdims=True)
    variance = images.var(axis=(0, 1, 2), keepdims=True)
    output = (images - mean) / jnp.sqrt(variance + 1e-5)
    output = output * scale.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1)
    return jnp.where(output > 0, output, slope * output)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_normalisation_and_its_gradient_are_those_of_the_definition(monkeypatch, slope, devices):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    keys = jax.random.split(jax.random.key(0), 4)
    images = 3 + 2 * jax.random.normal(keys[0], (4, 8, 8, 5))
    scale, shift = 1 + jax.random.normal(keys[1], (5,)), jax.random.normal(keys[2], (5,))
    slopes = jax.random.normal(keys[3], images.shape)
    got, pull = jax.vjp(lambda *given: normalise(*given, slope)[0], images, scale, shift)
    wanted, pull_plainly = jax.vjp(lambda *given: plainly(*given, slope), images, scale, shift)
    np.testing.assert_allclose(got, wanted, atol=2e-5)
    for g, w in zip(pull(slopes), pull_plainly(slopes), strict=True):
        np.testing.assert_allclose(g, w, atol=2e-4 * float(jnp.abs(w).max()))
    _, mean, variance = normalise(images, scale, shift, slope)
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, images.var(axis=(0, 1, 2)), rtol=1e-4)


def test_long_columns_are_summed_in_parts_on_one_cpu(monkeypatch):
    rows = jax.random.uniform(jax.random.key(0), (512, 3))
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert "split" in str(jax.make_jaxpr(batch_normalisation._column_sums)(rows))
    np.testing.assert_allclose(batch_normalisation._column_sums(rows), rows.sum(axis=0), rtol=1e-6)


def test_a_batch_over_devices_is_one_batch():
    """Eight devices with other images each: the statistics are those of all."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    images = jax.random.normal(jax.random.key(0), (8, 4, 4, 3)) + jnp.arange(8.0).reshape(
        -1, 1, 1, 1
    )
    alone = jax.jit(lambda x: normalise(x, jnp.ones(3), jnp.zeros(3), 0.0))(images)
    spread_out = jax.jit(lambda x: normalise(x, jnp.ones(3), jnp.zeros(3), 0.0))(
        jax.device_put(images, spread)
    )
    for a, b in zip(alone, spread_out, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


def test_a_network_in_bfloat16_multiplies_in_it_and_gives_and_keeps_float32():
    narrow, wide = (
        network(Autoencoder(16, 6, 1 / 16, dtype), (2, 16, 16, 3)) for dtype in ("bfloat16", None)
    )
    params, running = narrow.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (8, 16, 16, 3))

    def loss(params):
        made, changed = narrow.train(params, running, images)
        return jnp.square(made - images).mean(), (made, changed)

    gradient, (made, changed) = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert dtypes((params, running, changed, made, gradient)) == {"float32"}
    program = jax.make_jaxpr(jax.grad(loss, has_aux=True))(params)
    products = [line for line in str(program).splitlines() if "dot_general[" in line]
    assert len(products) > 4
    assert all("bf16" in line.split("=")[0] for line in products)
    for use in ("use", "train"):
        got, wanted = (
            jax.jit(getattr(each, use))(params, running, images) for each in (narrow, wide)
        )
        got, wanted = (each[0] if use == "train" else each for each in (got, wanted))
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, wanted, atol=0.02)
        assert (got != wanted).any()


def test_statistics_of_many_narrow_numbers_are_summed_in_wide_ones():
    """In bfloat16 256 + 1 is 256: the mean of 4096 ones would be a sixteenth."""
    ones = jnp.ones((4, 32, 32, 2), jnp.bfloat16)
    output, mean, variance = normalise(ones, jnp.ones(2), jnp.zeros(2), 0.0)
    assert output.dtype == jnp.bfloat16
    np.testing.assert_array_equal(mean, jnp.ones(2))
    np.testing.assert_array_equal(variance, jnp.zeros(2))


@pytest.mark.parametrize(("size", "code"), [(16, 5), (32, 8)])
def test_images_become_codes_and_codes_images(size, code):
    both = Autoencoder(size, code, width=1 / 16)
    net = network(both, (2, size, size, 3))
    params, running = net.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (3, size, size, 3))
    outputs, _ = jax.jit(net.train)(params, running, images)
    assert outputs.shape == images.shape
    assert float(outputs.min()) >= 0
    assert float(outputs.max()) <= 1
    encode, generate = (
        jax.jit(network(both, (2, size, size, 3), method).use) for method in ("encode", "generate")
    )
    codes = encode(params, running, images)
    assert codes.shape == (3, code)
    again = generate(params, running, codes)
    np.testing.assert_allclose(again, jax.jit(net.use)(params, running, images), atol=1e-6)


def test_used_as_it_was_trained():
    """After batches that are all alike, running averages give what the batch's statistics give."""
    net = network(Generator(16, 1 / 16), (2, 6))
    params, running = net.init(jax.random.key(0))
    codes = jax.random.normal(jax.random.key(1), (8, 6))
    train, use = jax.jit(net.train), jax.jit(net.use)
    for _ in range(3):
        outputs, running = train(params, running, codes)
    np.testing.assert_allclose(use(params, running, codes), outputs, atol=1e-5)
    for _ in range(60):  # A momentum of .9 has forgotten the first batches by then: .9^60 < .002.
        _, running = train(params, running, 3 * codes)
    tripled, _ = train(params, running, 3 * codes)
    np.testing.assert_allclose(use(params, running, 3 * codes), tripled, atol=5e-3)


def test_parameters_are_as_many_as_published():
    """Of 64 px and codes of 100: counted by hand from the layers' shapes."""
    shapes = jax.eval_shape(network(Generator(64), (2, 100)).init, jax.random.key(0))[0]
    channels = [512, 256, 128, 64, 3]
    kernels = 16 * sum(a * b for a, b in pairwise(channels))
    normalised = 2 * sum(channels[:-1])
    assert parameter_count(shapes) == 100 * 16 * 512 + kernels + normalised + 3
    assert set(shapes) >= {"to_4", "to_8", "to_16", "to_32", "to_64", "normalise_32"}
    shapes = jax.eval_shape(network(Encoder(100), (2, 64, 64, 3)).init, jax.random.key(0))[0]
    assert shapes["to_4"]["kernel"].shape == (4, 4, 256, 512)


@pytest.mark.parametrize("size", [8, 48, 0])
def test_sizes_that_cannot_be_doubled_to_are_refused(size):
    with pytest.raises(InputError, match="power of two"):
        widths(size)
