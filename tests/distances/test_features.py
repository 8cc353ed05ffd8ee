"""Distances of a network's features are their definitions on its layers."""

import jax
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

import perceptual_jax as pj

RNG = np.random.default_rng(0)
X = RNG.random((2, 32, 40, 3))
Y = np.clip(X + 0.2 * RNG.standard_normal(X.shape), 0, 1)


# --- Metrics ---------------------------------------------------------------------------------


def first_layer(images, params):
    """relu1_1 of a network fed [-1, 1], [n, places, channels]."""
    padded = np.pad(2 * images - 1, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    kernel = np.asarray(params["conv1_1"]["kernel"], np.float64)
    answers = np.einsum("nijcuv,uvco->nijo", windows, kernel)
    return np.maximum(answers, 0).reshape(len(images), -1, kernel.shape[-1])


@pytest.fixture(scope="module")
def random_vgg():
    """`value(x, y, **options)` on relu1_1 of a random VGG-16 in float64, and its params."""
    params = pj.make("vgg16-random").init(jax.random.key(0))["vgg16-random"]

    def value(x, y, **options):
        vgg = pj.make("vgg16-random", layers=("relu1_1",), preprocess="signed", **options)
        with jax.enable_x64(True):
            drawn = vgg.init(jax.random.key(0)) if options["metric"] == "swd" else {}
            draws = {key: leaf for key, leaf in drawn.items() if "/" in key}
            found = jax.jit(vgg.__call__)({vgg.name: params, **draws}, x, y)
        return np.asarray(found), draws

    return value, params


def cosine(fx, fy):
    """The mean of 1 - cos over places."""
    cosines = (fx * fy).sum(-1) / (np.linalg.norm(fx, axis=-1) * np.linalg.norm(fy, axis=-1))
    return (1 - cosines).mean(axis=1)


def gram(fx, fy):
    gx, gy = (np.einsum("npc,npd->ncd", f, f) / f.shape[1] for f in (fx, fy))
    return np.square(gx - gy).mean(axis=(1, 2))


def gram_trace(fx, fy):
    return np.square(np.square(fx).mean(axis=1) - np.square(fy).mean(axis=1)).mean(axis=1)


def l1(fx, fy):
    return np.abs(fx - fy).mean(axis=(1, 2))


METRICS = {
    "l1": l1,
    "l2": lambda fx, fy: np.square(fx - fy).mean(axis=(1, 2)),
    "cosine": cosine,
    "gram": gram,
    "gram-trace": gram_trace,
    "l1+gram": lambda fx, fy: l1(fx, fy) + 0.5 * gram(fx, fy),
}


@pytest.mark.parametrize("metric", METRICS)
def test_metric_is_its_definition(random_vgg, metric):
    value, params = random_vgg
    wanted = METRICS[metric](first_layer(X, params), first_layer(Y, params))
    np.testing.assert_allclose(value(X, Y, metric=metric)[0], wanted, rtol=1e-9)


def test_swd_is_scipys_wasserstein_distance(random_vgg):
    """The mean of W1 of the channel vectors along 256 directions of norm 1."""
    value, params = random_vgg
    got, draws = value(X, Y, metric="swd")
    ((directions,),) = (each.values() for each in draws.values())
    assert directions.shape == (64, 256)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, rtol=1e-12)
    along = [first_layer(images, params) @ np.asarray(directions) for images in (X, Y)]
    wanted = [
        np.mean([wasserstein_distance(u, v) for u, v in zip(*pair, strict=True)])
        for pair in zip(*(np.moveaxis(each, 1, 2) for each in along), strict=True)
    ]
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


GRAM_DIVISORS = {"hw": 32 * 40, "chw": 64 * 32 * 40, "gatys": 2 * 32 * 40, "none": 1}


@pytest.mark.parametrize("convention", GRAM_DIVISORS)
def test_gram_conventions(random_vgg, convention):
    """What Gram matrices are divided by is squared in their mean squared difference."""
    value, params = random_vgg
    fx, fy = first_layer(X, params), first_layer(Y, params)
    scale = (GRAM_DIVISORS["hw"] / GRAM_DIVISORS[convention]) ** 2
    for metric, definition in (("gram", gram), ("gram-trace", gram_trace)):
        got, _ = value(X, Y, metric=metric, gram_normalization=convention)
        np.testing.assert_allclose(got, scale * definition(fx, fy), rtol=1e-9)


def test_gatys_is_the_style_loss(random_vgg):
    """sum (G - A)^2 / (4 C^2 (HW)^2), G = F^T F, of Gatys et al. 2016."""
    value, params = random_vgg
    gx, gy = (np.einsum("npc,npd->ncd", f, f) for f in (first_layer(i, params) for i in (X, Y)))
    wanted = np.square(gx - gy).sum(axis=(1, 2)) / (4 * 64**2 * (32 * 40) ** 2)
    got, _ = value(X, Y, metric="gram", gram_normalization="gatys")
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


PLACELESS = ("gram", "gram-trace", "swd")


@pytest.mark.parametrize("metric", [*METRICS, "swd"])
def test_places_count_or_do_not(random_vgg, metric):
    """On `pixels`, of an image and the same pixels in any other order."""
    shuffled = RNG.permutation(X.reshape(2, -1, 3), axis=1).reshape(X.shape)
    with jax.enable_x64(True):
        vgg = pj.make("vgg16-random", layers=("pixels",), metric=metric)
        value = np.asarray(vgg(vgg.init(jax.random.key(0)), X, shuffled))
    if metric in PLACELESS:
        assert value.max() < 1e-14
    else:
        assert value.min() > 0.1


@pytest.mark.parametrize("metric", ["gram", "swd"])
def test_textures_may_wrap_around(weights_store, metric):
    """A periodic texture, shifted by a part of its period that pools divide, is the same style.

    Of what another texture differs by, the border (zeros lie beyond it) makes 3 % and 13 %.
    """
    tile, other = RNG.random((2, 8, 8, 3)).astype(np.float32)
    wide, others = (np.tile(each, (1, 9, 9, 1)) for each in (tile, other))
    vgg = pj.make("vgg16", layers=("relu1_2", "relu2_2"), metric=metric)
    both = np.concatenate([wide[:, 2:66, 6:70], others[:, :64, :64]])
    shifted, another = jax.jit(vgg.__call__)(vgg.init(jax.random.key(0)), wide[:, :64, :64], both)
    assert shifted < 0.2 * another


# --- Layers ----------------------------------------------------------------------------------


def test_layers_are_weighted_and_averaged():
    """value = sum_l w_l m_l / number of layers."""
    weights = {"pixels": 2.0, "relu1_1": 0.5}
    both = pj.make("vgg16-random", layers=weights)
    single = {layer: pj.make("vgg16-random", layers=(layer,)) for layer in weights}
    key = jax.random.key(0)
    wanted = sum(w * single[layer](single[layer].init(key), X, Y) for layer, w in weights.items())
    np.testing.assert_allclose(both(both.init(key), X, Y), wanted / 2, rtol=1e-5)


@pytest.mark.parametrize("preprocess", ["imagenet", "signed"])
def test_pixels_are_what_the_network_is_fed(preprocess):
    """Less ImageNet's mean and over its deviation, or in [-1, 1] as they are."""
    deviation = (0.229, 0.224, 0.225) if preprocess == "imagenet" else (0.5, 0.5, 0.5)
    with jax.enable_x64(True):
        vgg = pj.make("vgg16-random", layers=("pixels",), preprocess=preprocess)
        got = vgg(vgg.init(jax.random.key(0)), X, Y)
    np.testing.assert_allclose(got, np.abs((X - Y) / deviation).mean(axis=(1, 2, 3)), rtol=1e-12)


# --- Weights ---------------------------------------------------------------------------------


def test_draws_go_with_the_key():
    vgg = pj.make("vgg16-random", layers=("relu1_1",))
    values = [vgg(vgg.init(jax.random.key(seed)), X, Y)[0] for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_random_filters():
    """Kaiming normal: variance 2 / fan-in, no bias; of zero mean per filter and colour if asked."""
    plain, centred = (
        pj.make(name).init(jax.random.key(0))[name]
        for name in ("vgg16-random", "vgg16-random-zero-mean")
    )
    for layer, fan_in in (("conv1_2", 9 * 64), ("conv3_1", 9 * 128), ("conv5_3", 9 * 512)):
        kernel = np.asarray(plain[layer]["kernel"], np.float64)
        np.testing.assert_allclose(kernel.var(), 2 / fan_in, rtol=0.02)
        assert abs(kernel.mean()) < 5 * (2 / fan_in / kernel.size) ** 0.5
        assert not np.any(plain[layer]["bias"])
        np.testing.assert_array_equal(kernel, centred[layer]["kernel"])
    first = np.asarray(plain["conv1_1"]["kernel"], np.float64)
    wanted = first - first.mean(axis=(0, 1))
    np.testing.assert_allclose(centred["conv1_1"]["kernel"], wanted, atol=1e-6)


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
