"""Convolution: its definition, its forms, and every transformation of the primitive."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from perceptual_jax.ops.convolution import conv2d, fastest_on_cpu
from perceptual_jax.ops.convolution_forms import direct, patches, strips, winograd

HIGHEST = jax.lax.Precision.HIGHEST
plain = partial(direct, precision=HIGHEST, turned=False)


def draw(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def value_and_gradients(function, *arguments):
    def both(*arguments):
        value, pullback = jax.vjp(function, *arguments)
        slopes = jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)
        return value, *pullback(slopes)

    return jax.jit(both)(*arguments)


def assert_all_close(got, wanted, rtol=1e-5):
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol * np.abs(w).max())


# --- Forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("form", "size", "padding"),
    [
        (form, size, padding)
        for form, sizes in ((patches, (1, 3, 5)), (strips, (1, 3, 5)), (winograd, (3,)))
        for size in sizes
        for padding in range(min(size, 3))
    ],
)
def test_forms_are_equal(form, size, padding, turned):
    """Values and both gradients, on sides that no tile divides."""
    shape = (6, 4) if turned else (4, 6)
    images, kernel = draw(0, 2, 7, 9, 4), draw(1, size, size, *shape)
    options = {"padding": padding, "precision": HIGHEST, "turned": turned}
    got, wanted = (
        value_and_gradients(partial(each, **options), images, kernel) for each in (form, direct)
    )
    assert_all_close(got, wanted)


@pytest.mark.parametrize("sides", [(3, 3), (4, 4), (5, 12), (13, 6), (16, 17)])
@pytest.mark.parametrize("form", [strips, winograd])
def test_forms_of_every_size(form, sides):
    images, kernel = draw(0, 1, *sides, 8), draw(1, 3, 3, 8, 5)
    options = {"padding": 1, "precision": HIGHEST, "turned": False}
    assert_all_close(form(images, kernel, **options), direct(images, kernel, **options))


def test_winograds_error():
    """Against float64, as a fraction of the largest output: what the choice of points says."""
    with jax.enable_x64(True):
        images, kernel = np.maximum(draw(0, 2, 16, 16, 256), 0), draw(1, 3, 3, 256, 256)
        options = {"padding": 1, "precision": HIGHEST, "turned": False}
        exact = direct(images.astype(float), kernel.astype(float), **options)
        images, kernel = images.astype(np.float32), kernel.astype(np.float32)
        found = np.asarray(winograd(images, kernel, **options), float)
        error = np.abs(found - exact).max() / np.abs(exact).max()
        assert error < 3e-6


@pytest.mark.parametrize(
    ("images", "kernel", "padding", "turned", "wanted"),
    [
        ((8, 64, 64, 3), (3, 3, 3, 64), 1, False, direct),
        ((8, 64, 64, 64), (3, 3, 64, 64), 1, False, strips),
        ((8, 64, 64, 64), (3, 3, 3, 64), 1, True, patches),
        ((8, 32, 32, 128), (3, 3, 128, 128), 1, False, direct),
        ((8, 16, 16, 256), (3, 3, 256, 256), 1, False, winograd),
        ((8, 4, 4, 512), (3, 3, 512, 512), 1, False, patches),
        ((8, 4, 4, 512), (1, 1, 512, 512), 0, False, direct),
        ((1, 15, 15, 384), (3, 3, 384, 256), 1, False, direct),
        ((1, 15, 15, 256), (3, 3, 384, 256), 1, True, patches),
        ((8, 7, 7, 64), (5, 5, 64, 192), 2, False, patches),
        ((4, 31, 31, 64), (5, 5, 64, 192), 2, False, strips),
        ((4, 31, 31, 192), (5, 5, 64, 192), 2, True, patches),
    ],
)
def test_which_form(images, kernel, padding, turned, wanted):
    assert fastest_on_cpu(images, kernel, np.float32, padding, turned=turned) is wanted


def test_only_float32_is_approximated():
    shapes = (8, 16, 16, 256), (3, 3, 256, 256)
    for dtype in (jnp.bfloat16, np.float16, np.float64):
        assert fastest_on_cpu(*shapes, dtype, 1, turned=False) is direct


# --- The primitive -------------------------------------------------------------------------

CASES = [
    (2, 9, 3, 8, 3, 0),
    (2, 9, 3, 8, 3, 2),
    (1, 8, 3, 4, 7, 3),
    (2, 16, 64, 64, 3, 1),
    (1, 40, 256, 256, 3, 1),
    (1, 8, 256, 256, 3, 1),
]
"""Images, side, c, o, size of the kernel, padding: one for every form."""


def assert_same_derivatives(images, kernel, **options):
    """Forwards, backwards, twice, of what is not linear, as those of JAX's own convolution."""
    tangents = draw(2, *images.shape), draw(3, *kernel.shape)

    def summed(convolve):
        return lambda *operands: jnp.sin(convolve(*operands, **options)).sum()

    def all_of(convolve):
        gradient = jax.grad(summed(convolve), argnums=(0, 1))
        return jax.jit(
            lambda *operands: (
                convolve(*operands, **options),
                jax.jvp(summed(convolve), operands, tangents),
                jax.jvp(gradient, operands, tangents),
            )
        )(images, kernel)

    assert_all_close(all_of(conv2d), all_of(plain), rtol=2e-5)


@pytest.mark.parametrize(("n", "side", "channels", "outputs", "size", "padding"), CASES)
def test_derivatives(n, side, channels, outputs, size, padding):
    images, kernel = draw(0, n, side, side, channels), 0.05 * draw(1, size, size, channels, outputs)
    assert_same_derivatives(images, kernel, padding=padding)


@pytest.mark.parametrize(
    ("sides", "size", "padding", "stride"),
    [((23, 18), 11, 2, 4), ((16, 9), 3, 1, 2), ((9, 11), 4, 0, 3), ((10, 13), 2, 0, 3)],
)
def test_derivatives_at_a_stride(sides, size, padding, stride):
    """Also where the last pixels are never seen, and those between small kernels."""
    images, kernel = draw(0, 2, *sides, 3), 0.05 * draw(1, size, size, 3, 4)
    assert_same_derivatives(images, kernel, padding=padding, stride=stride)


@pytest.mark.parametrize("axes", [(1, None), (0, 0), (None, 0)])
def test_vmap(axes):
    images, kernels = draw(0, 3, 3, 8, 8, 4), draw(1, 3, 3, 3, 4, 5)
    operands = [
        each if axis is not None else each[0]
        for each, axis in zip((images, kernels), axes, strict=True)
    ]
    got, wanted = (
        jax.vmap(partial(each, padding=1), in_axes=axes)(*operands) for each in (conv2d, plain)
    )
    assert_all_close(got, wanted)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_what_is_spread_over_devices_stays_there(kind):
    """And no form that cuts images up is taken."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    images, kernel = draw(0, 8, 16, 16, 64), draw(1, 3, 3, 64, 64)
    placed = jax.device_put(images, spread)
    got = jax.jit(partial(conv2d, padding=1))(placed, kernel)
    assert got.sharding.is_equivalent_to(spread, 4)
    assert_all_close(got, plain(images, kernel, padding=1))
    text = jax.jit(partial(conv2d, padding=1)).lower(placed, kernel).as_text()
    assert "concatenate" not in text
    assert "concatenate" in jax.jit(partial(conv2d, padding=1)).lower(images, kernel).as_text()


def test_in_shard_map():
    """The kernel's gradient is summed over devices."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    images, kernel = draw(0, 8, 8, 8, 4), draw(1, 3, 3, 4, 4)
    spec = PartitionSpec("data")

    @partial(jax.shard_map, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec)
    def mapped(images, kernel):
        return conv2d(images, kernel, padding=1)

    def gradients(convolve):
        return jax.grad(lambda *operands: jnp.sin(convolve(*operands)).sum(), argnums=(0, 1))(
            images, kernel
        )

    assert_all_close(gradients(jax.jit(mapped)), gradients(partial(plain, padding=1)))


def test_exported():
    images, kernel = draw(0, 1, 40, 40, 256), draw(1, 3, 3, 256, 256)
    program = jax.jit(partial(conv2d, padding=1))
    exported = jax.export.export(program, platforms=("cpu", "cuda", "tpu"))(images, kernel)
    assert_all_close(exported.call(images, kernel), program(images, kernel))


@pytest.mark.parametrize(("channels", "stride"), [(3, 1), (3, 2), (130, 1), (130, 3)])
def test_convolution_is_its_definition(channels, stride):
    """Sums over windows, whichever form is chosen; the bias is added."""
    images, kernel, bias = draw(0, 2, 6, 7, channels), draw(1, 3, 3, channels, 4), draw(2, 4)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    wanted = np.einsum("nijcuv,uvco->nijo", windows[:, ::stride, ::stride], kernel) + np.asarray(
        bias
    )
    got = conv2d(images, kernel, bias, stride=stride, padding=1)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
