"""`Distance`, weighted sums and pairwise matrices, beyond the laws of every distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj

X, Y = jax.random.uniform(jax.random.key(0), (2, 5, 16, 18, 3))


def test_weighted_sum_is_the_sum_of_its_terms():
    """Named, weighted, adding up; a negative weight counts."""
    loss = pj.weighted_sum({"a": (0.5, pj.make("l1")), "b": (-2, pj.make("ssim"))})
    terms = loss.terms({}, X, Y)
    np.testing.assert_allclose(terms["a"], 0.5 * pj.make("l1")({}, X, Y), rtol=1e-6)
    np.testing.assert_allclose(terms["b"], -2 * pj.make("ssim")({}, X, Y), rtol=1e-6)
    np.testing.assert_allclose(loss({}, X, Y), terms["a"] + terms["b"], rtol=1e-6)
    assert loss.name == "weighted_sum(0.5 * l1 + -2 * ssim)"


def test_weighted_sum_gathers_params():
    """Random draws of different distances stand side by side."""
    layers = ("relu1_1",)
    parts = [pj.make(f"vgg16-random{kind}", layers=layers) for kind in ("", "-zero-mean")]
    params = pj.weighted_sum({d.name: (1.0, d) for d in parts}).init(jax.random.key(0))
    assert set(params) == {d.name for d in parts}


def test_a_sum_of_local_distances_has_a_map():
    gradient, l2 = pj.make("gradient"), pj.make("l2")
    loss = pj.weighted_sum({"g": (2.0, gradient), "l2": (1.0, l2)})
    wanted = 2 * gradient.map({}, X, Y) + l2.map({}, X, Y)
    np.testing.assert_allclose(loss.map({}, X, Y), wanted, rtol=1e-5, atol=1e-6)


def test_a_sum_compares_images_of_any_sizes_if_its_parts_do():
    narrow = Y[:, :, :12]
    free = pj.make("swd + 0.5 * alexnet-random(layers=('relu1',), metric='gram')")
    params = free.init(jax.random.key(0))
    terms = free.terms(params, X, narrow)
    np.testing.assert_allclose(free(params, X, narrow), sum(terms.values()), rtol=1e-6)
    assert all(term.shape == (5,) for term in terms.values())
    tied = pj.make("l1 + 2 * swd")
    with pytest.raises(pj.InputError, match=r"l1 \+ 2 \* swd: x .* must have the same size"):
        tied(tied.init(jax.random.key(0)), X, narrow)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"a": pj.make("l1")},
        {"a": (1.0,)},
        {"a": (1.0, "l1")},
        {"a": (float("nan"), pj.make("l1"))},
        {"a": (float("inf"), pj.make("l1"))},
        {"a": ("1", pj.make("l1"))},
    ],
)
def test_weighted_sum_refuses(parts):
    with pytest.raises(pj.InputError, match="weighted_sum"):
        pj.weighted_sum(parts)


def test_pairwise_of_itself():
    """Zero diagonal, symmetric, by default in one chunk or many alike."""
    embedding = pj.make("l1").embed({}, X)
    matrix = pj.pairwise(pj.make("l1"), {}, embedding, embedding)
    np.testing.assert_array_equal(np.diag(matrix), 0)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0)])
def test_pairwise_of_nothing(n, m):
    assert pj.pairwise(pj.make("l1"), {}, X[:n], Y[:m]).shape == (n, m)


def test_pairwise_refuses():
    l1 = pj.make("l1")
    with pytest.raises(pj.InputError, match="chunk must be at least 1"):
        pj.pairwise(l1, {}, X, Y, chunk=0)
    with pytest.raises(pj.InputError, match="cannot be compared"):
        pj.pairwise(l1, {}, X, Y[:, 1:])


def test_pairwise_memory_is_bounded():
    """The compiled program's scratch space stays far below all pairs of embeddings."""
    l1, side, count = pj.make("l1"), 32, 64
    images = jax.ShapeDtypeStruct((count, side, side, 3), np.float32)
    total = jax.grad(lambda x, y: pj.pairwise(l1, {}, x, y, chunk=8).sum())
    memory = jax.jit(total).lower(images, images).compile().memory_analysis()
    assert memory.temp_size_in_bytes < count * count * side * side * 3 * 4 / 8


def test_embeddings_of_other_images_are_refused():
    l2, ssim = pj.make("l2"), pj.make("ssim")
    with pytest.raises(pj.InputError, match="structures differ"):
        ssim.compare({}, ssim.embed({}, X), l2.embed({}, Y))
    with pytest.raises(pj.InputError, match="shapes"):
        l2.compare({}, l2.embed({}, X[:2]), l2.embed({}, Y[:3]))


def test_gradient_does_not_run_through_an_embedded_target():
    """It is an argument like any other: what is not differentiated costs nothing."""
    ssim = pj.make("ssim")
    target = ssim.embed({}, Y)
    once = jax.grad(lambda x: ssim.compare({}, ssim.embed({}, x), target).sum())(X)
    whole = jax.grad(lambda x: ssim({}, x, Y).sum())(X)
    np.testing.assert_allclose(once, whole, rtol=1e-4, atol=1e-6)


def test_narrow_embeddings_are_compared_in_float32():
    """bfloat16 images give float32 numbers."""
    narrow = X.astype(jnp.bfloat16)
    assert pj.make("l2")({}, narrow, narrow + jnp.bfloat16(0.5)).dtype == jnp.float32


def test_nothing_compares_with_one():
    """An empty batch gives an empty answer, against one image as against none."""
    l1 = pj.make("l1")
    one, none = jnp.zeros((1, 4, 4, 3)), jnp.zeros((0, 4, 4, 3))
    assert l1({}, none, one).shape == l1({}, one, none).shape == l1({}, none, none).shape == (0,)
