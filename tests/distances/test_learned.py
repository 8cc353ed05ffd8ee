"""Learned distances: files of heads on the features of another distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import perceptual_jax as pj
from perceptual_jax import weights
from perceptual_jax.distances.learned import Learned, read_learned, write_learned

RANDOM = "alexnet-random(metric='cosine')"
X, Y = jax.random.uniform(jax.random.key(0), (2, 2, 64, 64, 3))


def heads_of(spec):
    distance = pj.make(spec)
    found = jax.eval_shape(distance.embed, distance.init(jax.random.key(0)), X)
    rng = np.random.default_rng(0)
    return {layer: rng.random(leaf.shape[-1], np.float32) for layer, leaf in found.items()}


@pytest.fixture
def metric(tmp_path):
    path = tmp_path / "metric.safetensors"
    write_learned(path, Learned(RANDOM, heads_of(RANDOM), about={"seed": "0"}))
    return str(path)


def test_the_official_heads_are_lpips(weights_store, tmp_path):
    official = weights.read("lpips-alex-v0.1")
    heads = {layer: head["kernel"].reshape(-1) for layer, head in official.items()}
    path = tmp_path / "metric.safetensors"
    write_learned(path, Learned("lpips-alex(heads=False)", heads))
    learned, lpips = pj.make(str(path)), pj.make("lpips-alex")
    got, wanted = (
        jax.jit(jax.value_and_grad(lambda x, params, d=d: d(params, x, Y).sum()))(
            X, d.init(jax.random.key(0))
        )
        for d in (learned, lpips)
    )
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-6)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-4, atol=1e-7)


def test_a_distance_like_any_other(metric):
    distance = pj.make(metric)
    assert distance.name == metric
    params = distance.init(jax.random.key(1))
    value = jax.jit(distance.__call__)(params, X, Y)
    assert value.shape == (2,)
    assert (value > 0).all()
    np.testing.assert_array_equal(distance(params, X, X), 0)
    terms = distance.terms(params, X, Y)
    np.testing.assert_allclose(sum(terms.values()), value, rtol=1e-6)
    assert distance.map(params, X, Y).shape == (2, 64, 64)
    signed = pj.make(metric, value_range=(-1.0, 1.0))
    assert signed.name == f"{metric}(value_range=(-1.0, 1.0))"
    np.testing.assert_allclose(
        signed(signed.init(jax.random.key(1)), 2 * X - 1, 2 * Y - 1), value, rtol=1e-5
    )


def test_a_trained_trunk_is_kept(metric, tmp_path):
    """Its params come from the file, whatever the key, and need no store."""
    trunk = pj.make(RANDOM)
    params = trunk.init(jax.random.key(7))
    path = str(tmp_path / "tuned.safetensors")
    write_learned(path, Learned(RANDOM, heads_of(RANDOM), params))
    tuned, same = pj.make(path), pj.make(metric)
    got = tuned(tuned.init(jax.random.key(0)), X, Y)
    np.testing.assert_array_equal(got, same(same.init(jax.random.key(7)), X, Y))
    # Random weights stand under a name that tells the options.
    signed = pj.make(path, value_range=(-1.0, 1.0))
    again = signed(signed.init(jax.random.key(0)), 2 * X - 1, 2 * Y - 1)
    np.testing.assert_allclose(again, got, rtol=1e-5)
    assert read_learned(metric).params is None
    assert read_learned(metric).about == {"seed": "0"}


def test_the_gradient_in_the_heads_is_what_they_weigh(metric):
    distance = pj.make(metric)
    params = distance.init(jax.random.key(1))
    gradient = jax.grad(lambda p: distance(p, X, Y).sum())(params)[metric]["heads"]
    total = sum(jnp.vdot(gradient[layer], head) for layer, head in params[metric]["heads"].items())
    np.testing.assert_allclose(total, distance(params, X, Y).sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("header", "tensors", "message"),
    [
        ({}, {"heads/relu1": np.ones(64)}, "no learned distance"),
        ({"about": "{}"}, {"heads/relu1": -np.ones(64)}, "no tensor heads/relu1"),
        ({"about": "{}"}, {"heads/relu1": np.full(64, np.nan)}, "finite float32"),
        ({"about": "{}"}, {"other": np.ones(64)}, "no tensor other"),
        ({"about": "{}"}, {"trunk/a": np.ones(64)}, "no heads"),
        ({"about": "{"}, {"heads/relu1": np.ones(64)}, "cannot be read"),
        ({"about": "{}", "trunk": "me.safetensors"}, {"heads/relu1": np.ones(64)}, "another"),
        (
            {"about": "{}", "trunk": "lap1(distance='metric.safetensors')"},
            {"heads/relu1": np.ones(64)},
            "another",
        ),
        ({"about": "[]"}, {"heads/relu1": np.ones(64)}, "how it was made"),
        ({"about": "[" * 100_000}, {"heads/relu1": np.ones(64)}, "cannot be read"),
        (
            {"about": "{}"},
            {"heads/relu1": np.ones(64), "trunk/a": np.ones(1), "trunk/a/b": np.ones(1)},
            "a tensor and a folder of tensors",
        ),
        ({"about": "{}", "trunk": "nothing"}, {"heads/relu1": np.ones(64)}, "no distance"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, header, tensors, message):
    path = tmp_path / "metric.safetensors"
    if header:
        header = {"format": "perceptual-jax learned distance 1", "trunk": RANDOM, **header}
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    safetensors.numpy.save_file(tensors, path, header)
    with pytest.raises(pj.InputError, match=message):
        pj.make(str(path))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"\xff" * 100])
def test_garbage(tmp_path, content):
    path = tmp_path / "metric.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(pj.InputError, match=r"metric\.safetensors cannot be read"):
        pj.make(str(path))


def test_heads_must_fit_the_trunk(tmp_path):
    path = tmp_path / "metric.safetensors"
    write_learned(path, Learned(RANDOM, {"relu1": np.ones(64)}))
    distance = pj.make(str(path))
    with pytest.raises(pj.InputError, match="its heads are for relu1"):
        distance(distance.init(jax.random.key(0)), X, Y)
    write_learned(path, Learned("l2", {"relu1": np.ones(64)}))
    distance = pj.make(str(path))
    with pytest.raises(pj.InputError, match="maps of features"):
        distance(distance.init(jax.random.key(0)), X, Y)
    with pytest.raises(pj.InputError, match="at least 0"):
        write_learned(path, Learned("l2", {"relu1": -np.ones(64)}))
