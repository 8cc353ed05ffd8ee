"""The contextual loss is its dense definition, in blocks too, and tolerates a shift."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data, transform

import perceptual_jax as pj
from perceptual_jax.ops import contextual as ops

RNG = np.random.default_rng(0)
# Features of two images each, of different sizes: 42 vectors and 30.
FX = RNG.random((2, 6, 7, 4))
FY = np.abs(FX[:, :5, ::-1][:, :, :6] + 0.3 * RNG.standard_normal((2, 5, 6, 4)))
LAYERS = "layers=('conv1_2', 'relu2_2')"


# --- The definition --------------------------------------------------------------------------


def unit(rows):
    return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)


def point_distances(u, v, distance):
    """[n, m], of all rows u and v."""
    if distance == "cosine":
        mean = v.mean(axis=0, keepdims=True)
        return 1 - unit(u - mean) @ unit(v - mean).T
    apart = u[:, None] - v[None]
    return jnp.abs(apart).sum(axis=-1) if distance == "l1" else jnp.square(apart).sum(axis=-1)


def places(height, width):
    """Rows and columns from 0 to 1."""
    return np.stack(
        np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij"), axis=-1
    ).reshape(-1, 2)


def shares(apart, h):
    weights = jnp.exp((1 - apart) / h)
    return weights / weights.sum(axis=1, keepdims=True)


def dense(fx, fy, h=0.5, distance="cosine", spatial_weight=0.0):
    """-log(mean_j max_i CX_ij + 1e-5) of features [h, w, c].

    CX_ij = w_ij / sum_k w_ik, w_ij = exp((1 - d_ij / (min_k d_ik + 1e-5)) / h); the bilateral
    form mixes in the shares of squared distances in the image.
    """
    u, v = (jnp.asarray(f).reshape(-1, f.shape[-1]) for f in (fx, fy))
    apart = point_distances(u, v, distance)
    similar = shares(apart / (apart.min(axis=1, keepdims=True) + 1e-5), h)
    if spatial_weight:
        here, there = places(*fx.shape[:2]), places(*fy.shape[:2])
        near = shares(np.square(here[:, None] - there[None]).sum(axis=-1), h)
        similar = (1 - spatial_weight) * similar + spatial_weight * near
    return -jnp.log(similar.max(axis=0).mean() + 1e-5)


OPTIONS = [
    {"distance": distance, "h": h, "spatial_weight": weight}
    for distance in ("cosine", "l1", "l2")
    for h, weight in ((0.5, 0.0), (0.1, 0.3))
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
# 42 rows of 30 pairs: all at once, or 8 at a time, which leave 2 over.
@pytest.mark.parametrize("block", [2**20, 240])
def test_loss_is_the_dense_form(options, block, monkeypatch):
    """Value and gradient in both, however the pairs are cut into blocks."""
    monkeypatch.setattr(ops, "_BLOCK", block)

    def ours(fx, fy):
        return ops.contextual_loss(fx, fy, **{"h": 0.5, **options}).sum()

    def definition(fx, fy):
        return sum(dense(*pair, **options) for pair in zip(fx, fy, strict=True))

    with jax.enable_x64(True):
        both = jnp.asarray(FX), jnp.asarray(FY)
        got, gradients = jax.jit(jax.value_and_grad(ours, argnums=(0, 1)))(*both)
        wanted, references = jax.jit(jax.value_and_grad(definition, argnums=(0, 1)))(*both)
    np.testing.assert_allclose(got, wanted, rtol=1e-10)
    for gradient, reference in zip(gradients, references, strict=True):
        scale = np.abs(reference).max()
        np.testing.assert_allclose(gradient, reference, rtol=0, atol=1e-9 * scale)


def test_it_is_not_symmetric():
    """x may have more than y has, at little cost; the other way round it is missing."""
    more = jnp.asarray(RNG.standard_normal((1, 8, 8, 4)), jnp.float32)
    part = more[:, :3]
    both = {"h": 0.1, "distance": "l2"}
    assert ops.contextual_loss(more, part, **both) < 0.1 * ops.contextual_loss(part, more, **both)


def test_large_features_are_shrunk():
    """By 2x2 means until there are fewer than 128^2 places."""
    features = RNG.random((1, 300, 256, 2))
    with jax.enable_x64(True):
        got = ops.shrunk(jnp.asarray(features))
        same = ops.shrunk(jnp.asarray(features[:, :127, :129]))
    wanted = features.reshape(1, 75, 4, 64, 4, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    np.testing.assert_array_equal(same, features[:, :127, :129])
    assert ops.shrunk(jnp.zeros((1, 128, 128, 1))).shape == (1, 64, 64, 1)


# --- On images -------------------------------------------------------------------------------


def features_of(layers, images, spec="vgg16"):
    """A network's features of images in [0, 1], through the catalogue."""
    network = pj.make(spec, layers=layers, metric="l1")
    return jax.jit(network.embed)(network.init(jax.random.key(0)), images)


@pytest.mark.parametrize(
    "options",
    [{}, {"h": 0.2, "distance": "l2"}, {"spatial_weight": 0.4, "distance": "l1"}],
    ids=str,
)
def test_layers_are_weighted_and_averaged(weights_store, options):
    """sum_l w_l loss_l / number of layers."""
    x, y = RNG.random((2, 2, 12, 14, 3))
    weights = {"conv1_2": 0.5, "relu2_2": 2.0}
    with jax.enable_x64(True):
        distance = pj.make("contextual", layers=weights, **options)
        got = jax.jit(distance.__call__)(distance.init(jax.random.key(0)), x, y)
        fx, fy = (features_of(tuple(weights), images) for images in (x, y))
        wanted = [
            sum(
                w / 2 * dense(fx[layer][i], fy[layer][i], **options) for layer, w in weights.items()
            )
            for i in range(2)
        ]
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


def test_the_metric_is_the_distance(weights_store):
    """`vgg16(metric="contextual")` is `contextual` of the same layers."""
    x, y = RNG.random((2, 1, 12, 14, 3)).astype(np.float32)
    values = []
    for spec in (f"vgg16(metric='contextual', {LAYERS})", f"contextual({LAYERS})"):
        distance = pj.make(spec)
        values.append(jax.jit(distance.__call__)(distance.init(jax.random.key(0)), x, y).item())
    np.testing.assert_allclose(*values, rtol=1e-6)


@pytest.fixture(scope="module")
def photos():
    """A cat, the same two pixels aside, and a cup of coffee, all 64 x 64 px."""
    cat = transform.resize(data.chelsea()[:300, 50:350], (80, 80), anti_aliasing=True)
    coffee = transform.resize(data.coffee()[:400, 100:500], (64, 64), anti_aliasing=True)
    pictures = cat[8:72, 8:72], cat[8:72, 10:74], coffee
    return [picture[None].astype(np.float32) for picture in pictures]


def test_a_shift_costs_little(weights_store, photos):
    """Of a photograph, a fraction of what another one costs, and less so than with aligned l2."""

    def shift_to_other(spec):
        distance = pj.make(spec)
        cat, shifted, coffee = photos
        others = np.concatenate([shifted, coffee])
        near, far = jax.jit(distance.__call__)(distance.init(jax.random.key(0)), cat, others)
        return near / far

    layers = "layers=('relu2_2', 'relu3_2')"
    nearest = shift_to_other(f"contextual({layers})")
    aligned = shift_to_other(f"vgg16(metric='l2', {layers})")
    assert nearest < 0.2
    assert nearest < 0.7 * aligned
