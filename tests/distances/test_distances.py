"""Single distances against definitions and implementations of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj

X = np.asarray(jax.random.uniform(jax.random.key(0), (2, 32, 40, 3)))
Y = np.clip(X + 0.2 * np.asarray(jax.random.normal(jax.random.key(1), X.shape)), 0, 1)


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("skimage", {}),
        ("wang2004", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
    ],
)
def test_ssim_is_scikit_images(preset, options):
    """In float64; theirs averages windows that leave the image as well, ours whole ones."""
    metrics = pytest.importorskip("skimage.metrics")
    pad = {"skimage": 3, "wang2004": 5}[preset]
    with jax.enable_x64(True):
        x, y = X.astype(np.float64), Y.astype(np.float64)
        got = 1 - pj.make("ssim", preset=preset)({}, x, y)
        for i in range(len(x)):
            _, whole = metrics.structural_similarity(
                x[i], y[i], channel_axis=-1, data_range=1.0, full=True, **options
            )
            np.testing.assert_allclose(got[i], whole[pad:-pad, pad:-pad].mean(), rtol=1e-6)


def first_layer(x, params):
    """relu1_1 of a network fed [-1, 1], by definition."""
    padded = np.pad(2 * x.astype(np.float64) - 1, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    kernel = np.asarray(params["conv1_1"]["kernel"], np.float64)
    return np.maximum(np.einsum("nijcuv,uvco->nijo", windows, kernel), 0)


@pytest.fixture(scope="module")
def random_vgg():
    """`value(**options)` on relu1_1 of a random VGG-16, and that layer's features."""

    def value(**options):
        vgg = pj.make("vgg16-random", layers=("relu1_1",), preprocess="signed", **options)
        return vgg(vgg.init(jax.random.key(0)), X, Y)

    params = pj.make("vgg16-random").init(jax.random.key(0))["vgg16-random"]
    return value, first_layer(X, params), first_layer(Y, params)


def test_cosine_is_its_definition(random_vgg):
    """The mean of 1 - cos over places."""
    value, fx, fy = random_vgg
    norms = np.linalg.norm(fx, axis=-1) * np.linalg.norm(fy, axis=-1)
    wanted = (1 - (fx * fy).sum(-1) / norms).mean(axis=(1, 2))
    np.testing.assert_allclose(value(metric="cosine"), wanted, rtol=1e-5)


GRAM_DIVISORS = {"hw": 32 * 40, "chw": 64 * 32 * 40, "gatys": 2 * 32 * 40, "none": 1}


@pytest.mark.parametrize("convention", GRAM_DIVISORS)
def test_gram_conventions(random_vgg, convention):
    """Mean squared difference of Gram matrices, and of their diagonals."""
    value, *features = random_vgg
    gx, gy = (np.einsum("nijc,nijd->ncd", f, f) / GRAM_DIVISORS[convention] for f in features)
    wanted = np.square(gx - gy).mean(axis=(1, 2))
    got = value(metric="gram", gram_normalization=convention)
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    diagonal = np.square(np.einsum("ncc->nc", gx) - np.einsum("ncc->nc", gy)).mean(axis=1)
    got = value(metric="gram-trace", gram_normalization=convention)
    np.testing.assert_allclose(got, diagonal, rtol=1e-4)


def test_layers_are_weighted_and_averaged():
    """value = sum_l w_l m_l / number of layers."""
    weights = {"pixels": 2.0, "relu1_1": 0.5}
    both = pj.make("vgg16-random", layers=weights)
    single = {layer: pj.make("vgg16-random", layers=(layer,)) for layer in weights}
    key = jax.random.key(0)
    wanted = sum(w * single[layer](single[layer].init(key), X, Y) for layer, w in weights.items())
    np.testing.assert_allclose(both(both.init(key), X, Y), wanted / 2, rtol=1e-5)


def test_draws_go_with_the_key():
    vgg = pj.make("vgg16-random", layers=("relu1_1",))
    values = [vgg(vgg.init(jax.random.key(seed)), X, Y)[0] for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("name", ["vgg16-random", "lpips-alex"])
def test_params_of_another_distance_are_refused(name):
    with pytest.raises(pj.InputError, match=r"params lack .*init\(key\)"):
        pj.make(name)({"other": 1}, X, Y)


def test_trained_distances_share_their_network(weights_store):
    """One dict holds the params of all; the backbone's leaves are the same."""
    key = jax.random.key(0)
    vgg, lpips = pj.make("vgg16").init(key), pj.make("lpips-vgg").init(key)
    assert set(lpips) == {"vgg16", "lpips-vgg-v0.1"}
    jax.tree.map(np.testing.assert_array_equal, vgg["vgg16"], lpips["vgg16"])


def test_charbonnier_is_its_definition():
    wanted = np.sqrt(np.square(2 * (X - Y)) + 0.1**2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(pj.make("charbonnier", eps=0.1)({}, X, Y), wanted, rtol=1e-5)


def test_gradient_sees_edges_and_not_brightness():
    assert jnp.abs(pj.make("gradient")({}, X, X + 0.25)).max() < 1e-6


@pytest.mark.parametrize("preset", ["wang2004", "skimage"])
@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_ssim_in_bfloat16_on_smooth_images(preset, level):
    """Its moments are taken in float32: small variances are differences of large numbers."""
    noise = jax.random.normal(jax.random.key(0), (2, 1, 32, 32, 3))
    x, y = (level + 0.01 * noise).astype(jnp.bfloat16)
    narrow = pj.make("ssim", preset=preset)({}, x, y)
    wide = pj.make("ssim", preset=preset)({}, x.astype(jnp.float32), y.astype(jnp.float32))
    np.testing.assert_allclose(narrow, wide, rtol=1e-6)
