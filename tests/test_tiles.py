"""Images compared tile by tile, against the same images compared whole."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from perceptual_jax.backbones import BACKBONES
from perceptual_jax.distances.features import DEFAULT_LAYERS
from perceptual_jax.tiles import _cut

X, Y = jax.random.uniform(jax.random.key(0), (2, 3, 24, 28, 3))
L1, L2, SSIM = (pj.make(name) for name in ("l1", "l2", "ssim"))

# What to compare, tile, margin, size: tiles that divide no side, strides that divide no tile.
TILES = [
    ("l2", 7, 0, (23, 40)),
    ("gradient", 16, 1, (33, 50)),
    ("ssim", 16, 10, (45, 80)),
    ("patch-rbf(padding=False, stride=3)", 16, 5, (47, 60)),
    ("oriented-edges(window=8, stride=4)", 16, 12, (66, 81)),
    ("vgg16-random(layers=('relu1_2', 'pool2'), metric='l2')", 16, 10, (45, 66)),
    ("alexnet-random(layers=('relu1', 'pool1'), metric='l2')", 16, 14, (50, 71)),
    # Its pools reach over the far border, by as much as the side of the image says.
    ("squeezenet1_1(weights='random', layers=('relu1', 'pool3'), metric='l2')", 16, 20, (75, 92)),
    ("lpips-alex", 32, 90, (230, 301)),
    *(
        pytest.param(spec, 32, 112, (259, 278), marks=pytest.mark.slow)
        for spec in ("lpips-vgg", "squeezenet1_1(weights='random', metric='l2')")
    ),
]


@pytest.mark.parametrize(("spec", "tile", "margin", "size"), TILES)
def test_tiles_change_nothing(weights_store, spec, tile, margin, size):
    """Terms, maps and gradients, of two images and one."""
    distance = pj.make(spec)
    in_tiles = pj.tiled(distance, tile=tile, margin=margin)
    params = distance.init(jax.random.key(0))
    x = jax.random.uniform(jax.random.key(1), (2 if tile < 32 else 1, *size, 3))
    y = jax.random.uniform(jax.random.key(2), (1, *size, 3))

    def run(distance, params, x, y):
        def weighted(x, y):
            terms = distance.terms(params, x, y)
            return (sum(terms.values()) * jnp.arange(1.0, len(x) + 1)).sum(), terms

        maps = distance.compare_maps(params, distance.embed(params, x), distance.embed(params, y))
        return jax.grad(weighted, (0, 1), has_aux=True)(x, y), maps

    wanted, got = (jax.jit(partial(run, each))(params, x, y) for each in (distance, in_tiles))
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=1e-6 if w.ndim == 1 else 1e-4, atol=1e-5 * w.max())


@pytest.mark.parametrize("side", [4096, 4111, 2001])
@pytest.mark.parametrize("name", DEFAULT_LAYERS)
def test_default_margin_covers_every_network(name, side):
    """What a value sees lies in the window that it is taken from, or is beyond the image."""
    network, layers = BACKBONES[name], DEFAULT_LAYERS[name]
    params = jax.eval_shape(network.random_params, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, side, 8 + side, 3), np.float32)
    found = jax.eval_shape(partial(network.features, layers=layers), params, image)
    fields = {layer: network.receptive_field(layer) for layer in layers}
    axis = _cut(side, 1024, 128, max(field.stride for field in fields.values()))
    for layer, (size, stride, centre) in fields.items():
        shares = axis.shares(name, found[layer].shape[1], stride)
        for start, (low, high) in zip(axis.starts, shares, strict=True):
            first = low * stride + centre - (size - 1) / 2
            last = (high - 1) * stride + centre + (size - 1) / 2
            assert first >= 0 or start == 0
            assert last < axis.window or start + axis.window == side


def test_windows_of_tiles():
    """They cover a side, overlap by two margins and begin where strides of 8 do."""
    for side in range(60, 300):
        axis = _cut(side, 40, 13, 8)
        assert axis.starts[0] == 0
        assert axis.starts[-1] + axis.window == side
        assert not any(start % 8 for start in axis.starts)
        steps = np.diff(axis.starts)
        assert (steps > 0).all()
        assert (steps <= axis.window - 26).all()
        assert axis.window <= 40 + 2 * 16 + 7


def test_memory_is_that_of_a_tile():
    distance = pj.make("vgg16-random", layers=("relu1_2", "relu2_2"))
    params = jax.eval_shape(distance.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, 768, 768, 3), np.float32)

    def bytes_of(distance):
        loss = jax.jit(jax.grad(lambda x, y, params: distance(params, x, y).sum()))
        return loss.lower(images, images, params).compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(pj.tiled(distance, tile=96, margin=16)) < bytes_of(distance) / 10


def test_small_images_are_not_cut():
    in_tiles = pj.tiled(SSIM, tile=8, margin=10)
    np.testing.assert_array_equal(in_tiles({}, X, Y), SSIM({}, X, Y))
    np.testing.assert_array_equal(in_tiles.map({}, X, Y), SSIM.map({}, X, Y))


def test_the_value_in_tiles_is_the_mean_of_the_map():
    in_tiles = pj.tiled(SSIM, tile=8, margin=5)
    maps = in_tiles.compare_maps({}, X, Y)
    np.testing.assert_allclose(in_tiles({}, X, Y), maps["structure"].mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(in_tiles.map({}, X, Y), SSIM.map({}, X, Y), rtol=1e-4, atol=1e-6)


def test_tiles_keep_the_arithmetic():
    """Of bfloat16 and uint8, also of one beside floats."""
    in_tiles = pj.tiled(L2, tile=8, margin=0)
    coarse = (X * 255).astype(jnp.uint8)
    for x, y in (
        (X.astype(jnp.bfloat16), Y.astype(jnp.bfloat16)),
        (coarse, coarse[::-1]),
        (coarse, Y),
    ):
        np.testing.assert_allclose(in_tiles({}, x, y), L2({}, x, y), rtol=1e-6)


def test_tiles_of_a_weighted_sum():
    loss = pj.weighted_sum({"l2": (2.0, L2), "ssim": (0.1, SSIM)})
    in_tiles = pj.tiled(loss, tile=8, margin=6)
    np.testing.assert_allclose(in_tiles({}, X, Y), loss({}, X, Y), rtol=1e-6)
    assert set(in_tiles.terms({}, X, Y)) == {"l2/pixels", "ssim/structure"}


@pytest.mark.parametrize(
    ("distance", "tile", "margin", "message"),
    [
        (pj.on_resized(L2, 16), 64, 8, "does not grow with the image"),
        (pj.make("ssim(preset='matlab')"), 512, 16, "does not grow with the image"),
        (SSIM, 64, 0, "margin is too small"),
        (SSIM, 4, 1, "tile with its margins is too small: ssim: images must be at least 11x11"),
    ],
)
def test_what_cannot_be_tiled(distance, tile, margin, message):
    images = jax.ShapeDtypeStruct((1, 1200, 1100, 3), np.float32)
    with pytest.raises(pj.InputError, match=message):
        jax.eval_shape(pj.tiled(distance, tile=tile, margin=margin).__call__, {}, images, images)


def test_tiles_of_images_that_do_not_match():
    with pytest.raises(pj.InputError, match=r"^tiled\(l2, 8, 0\): x .* cannot be compared"):
        pj.tiled(L2, tile=8, margin=0)({}, X, Y[:, :20])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pj.tiled(L1, tile=0), "tile must be a whole number of at least 1"),
        (lambda: pj.tiled(L1, margin=-1), "margin must be a whole number of at least 0"),
        (lambda: pj.tiled(L1, margin=0.5), "margin must be a whole number of at least 0"),
        (lambda: pj.tiled(pj.make("gmsd")), "gmsd has no maps"),
    ],
)
def test_wrong_options(make, message):
    with pytest.raises(pj.InputError, match=message):
        make()
