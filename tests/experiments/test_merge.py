"""Equal operations on equal operands are done once, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from experiments.common.merge import merged


def count(function, *arguments, primitive):
    equations = jax.make_jaxpr(function)(*arguments).jaxpr.eqns
    return sum(equation.primitive.name == primitive for equation in equations)


def two_of_one_network(params, x):
    deep = pj.make("alexnet-random(layers=('relu2',), metric='l2')")
    wide = pj.make("alexnet-random(layers=('relu1', 'conv2'), metric='gram')")
    own = {deep.name: params, wide.name: params}
    return [jnp.square(each.embed(own, x)[layer]).sum() for each, layer in
            ((deep, "relu2"), (wide, "relu1"), (wide, "conv2"))]  # fmt: skip


def test_two_distances_share_the_pass_of_a_network():
    """Two convolutions instead of six; the values and gradients stay."""
    params = next(iter(pj.make("alexnet-random").init(jax.random.key(0)).values()))
    x = jax.random.uniform(jax.random.key(1), (1, 40, 40, 3))
    assert count(two_of_one_network, params, x, primitive="conv2d") == 6
    assert count(merged(two_of_one_network), params, x, primitive="conv2d") == 2

    def slopes(function):
        return jax.jit(jax.value_and_grad(lambda x: sum(function(params, x))))(x)

    (value, slope), (value_merged, slope_merged) = map(
        slopes, (two_of_one_network, merged(two_of_one_network))
    )
    np.testing.assert_allclose(value_merged, value, rtol=1e-6)
    np.testing.assert_allclose(slope_merged, slope, atol=1e-5 * np.abs(slope).max())


def test_what_differs_is_kept():
    """Operands, options, constants, and the order of operands."""

    def function(x, y):
        a = x @ y + (x @ y.T) + (y @ x)
        b = x.sum(axis=0, keepdims=True) + x.sum(axis=1, keepdims=True)
        c = x * np.arange(4, dtype=np.float32) + x * np.arange(1, 5, dtype=np.float32)
        return a + b + c + 2 * x + 3 * x

    x, y = jax.random.normal(jax.random.key(0), (2, 4, 4))
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(merged(function)(x, y), function(x, y), rtol=1e-5)
        assert count(merged(function), x, y, primitive="dot_general") == 3


def test_inputs_and_constants_may_be_results():
    x = jnp.ones(3)
    found = merged(lambda x: {"x": x, "again": x, "one": 1.0, "twice": (x + x, x + x)})(x)
    np.testing.assert_array_equal(found["again"], x)
    np.testing.assert_array_equal(found["twice"][1], 2 * x)
    assert found["one"] == 1.0
