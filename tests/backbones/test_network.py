"""Layer tables and what is read from them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceptual_jax import InputError
from perceptual_jax.backbones import BACKBONES
from perceptual_jax.backbones.network import Conv, Fire, MaxPool

every_layer = pytest.mark.parametrize(
    ("backbone", "layer"),
    [(network, layer) for network in BACKBONES.values() for layer in network.layer_names],
    ids=lambda value: value if isinstance(value, str) else value.name,
)


def shape_of(network, layer, side):
    params = jax.eval_shape(network.random_params, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    return jax.eval_shape(
        lambda p, i: network.features(p, i, (layer,))[layer], params, images
    ).shape


@every_layer
def test_smallest_input_is_minimal(backbone, layer):
    """At that side the layer has an output, at one pixel less it has none."""
    side = backbone.smallest_input((layer,))
    assert min(shape_of(backbone, layer, side)) >= 1
    if side == 1:
        return
    try:
        shape = shape_of(backbone, layer, side - 1)
    except (TypeError, ValueError):
        return
    assert min(shape) < 1


@pytest.mark.parametrize("network", BACKBONES.values(), ids=BACKBONES)
def test_random_draws_are_kaiming(network):
    """Variance 2 / fan-in in every layer, zero biases."""
    params = network.random_params(jax.random.key(0))
    for layer in network.convolutions:
        kernel, bias = params[layer.name]["kernel"], params[layer.name]["bias"]
        assert kernel.shape == layer.kernel_shape
        variance = 2 / (layer.size**2 * layer.inputs)
        np.testing.assert_allclose(kernel.var(), variance, rtol=4 * np.sqrt(2 / kernel.size))
        np.testing.assert_array_equal(bias, 0)


@pytest.mark.parametrize("network", BACKBONES.values(), ids=BACKBONES)
def test_zero_mean_is_of_the_first_layer(network):
    """Its filters lose their spatial mean per input channel; the other layers stay."""
    plain = network.random_params(jax.random.key(0))
    centred = network.random_params(jax.random.key(0), zero_mean_first=True)
    first, *others = (layer.name for layer in network.convolutions)
    np.testing.assert_allclose(centred[first]["kernel"].mean(axis=(0, 1)), 0, atol=1e-7)
    wanted = plain[first]["kernel"] - plain[first]["kernel"].mean(axis=(0, 1), keepdims=True)
    np.testing.assert_allclose(centred[first]["kernel"], wanted, atol=1e-7)
    for layer in others:
        np.testing.assert_array_equal(centred[layer]["kernel"], plain[layer]["kernel"])


@pytest.mark.parametrize("network", BACKBONES.values(), ids=BACKBONES)
def test_nothing_deeper_than_asked_is_computed(network):
    """Params of later layers are not even looked at."""
    first = network.convolutions[0]
    params = {first.name: network.random_params(jax.random.key(0))[first.name]}
    found = network.features(params, jnp.ones((1, 16, 16, 3)), ("pixels", first.name))
    assert list(found) == ["pixels", first.name]


def thin(network):
    """The same table with one channel in every layer, which sees the same pixels."""
    layers, inputs = [], 3
    for layer in network.layers:
        if isinstance(layer, Conv):
            layer, inputs = layer._replace(inputs=inputs, outputs=1), 1
        elif isinstance(layer, Fire):
            layer, inputs = layer._replace(inputs=inputs, squeeze=1, expand=1), 2
        layers.append(layer)
    return network._replace(layers=tuple(layers))


@pytest.mark.parametrize(
    ("name", "layer", "field"),
    [
        ("vgg16", "relu3_3", (40, 4, 1.5)),
        ("vgg16", "conv5_3", (196, 16, 7.5)),
        ("alexnet", "relu3", (99, 16, 15.0)),
        ("squeezenet1_1", "fire5", (63, 8, 7.0)),
    ],
)
def test_receptive_field_values(name, layer, field):
    """As published for VGG-16 and AlexNet."""
    assert BACKBONES[name].receptive_field(layer) == field


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("name", ["vgg16", "alexnet", "squeezenet1_1"])
def test_receptive_field_of_every_layer(name, axis):
    """The rows, or columns, that one output in the middle answers to.

    Kernels are positive and each line in turn is made very bright, so that nothing cancels and
    no maximum hides it.
    """
    network = thin(BACKBONES[name])
    fields = {layer: network.receptive_field(layer) for layer in network.layer_names[1:]}
    params = {
        conv.name: {
            "kernel": jnp.full(conv.kernel_shape, 1 / np.prod(conv.kernel_shape[:3])),
            "bias": jnp.zeros(conv.outputs),
        }
        for conv in network.convolutions
    }
    width = max(field.size + 4 * field.stride for field in fields.values())
    height = network.smallest_input(fields)
    lines = jnp.concatenate([jnp.zeros((1, width)), jnp.eye(width)])
    images = 1 + 1e9 * jnp.broadcast_to(lines[:, None, :, None], (width + 1, height, width, 3))
    images = images if axis == 2 else images.transpose(0, 2, 1, 3)
    found = jax.jit(lambda images: network.features(params, images, fields))(images)
    for layer, (size, stride, centre) in fields.items():
        maps = np.asarray(found[layer] if axis == 2 else found[layer].transpose(0, 2, 1, 3))
        place = 1 - math.ceil((centre - (size - 1) / 2) / stride)  # The second inside of padding.
        plain, *bright = maps[:, :, place].max(axis=(1, 2))
        seen = [line for line, value in enumerate(bright) if value > 1.001 * plain]
        first = centre + stride * place - (size - 1) / 2
        assert first > 0
        assert seen == list(range(int(first), int(first) + size)), layer
        assert seen[-1] < width - 1


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1"])
def test_another_rectifier_stands_at_every_relu(name):
    """With the identity a network is linear, with zero it is silent, with ReLU as it was."""
    network = thin(BACKBONES[name])
    linear = network.with_rectifier(lambda x: x)
    last = network.layers[-1].name
    convolutions = tuple(layer for layer in linear.layers if not isinstance(layer, MaxPool))
    linear = linear._replace(layers=convolutions)
    params = network.random_params(jax.random.key(0))
    x, y = jax.random.normal(jax.random.key(1), (2, 1, 65, 65, 3))

    def features(images):
        return linear.features(params, images, (convolutions[-1].name,))[convolutions[-1].name]

    together = features(x + y)
    np.testing.assert_allclose(
        features(x) + features(y), together, atol=1e-4 * np.abs(together).max()
    )
    zeros = network.with_rectifier(jnp.zeros_like).features(params, x, (last,))[last]
    np.testing.assert_array_equal(zeros, 0)
    plain = network.features(params, x, (last,))[last]
    same = network.with_rectifier(jax.nn.relu).features(params, x, (last,))[last]
    np.testing.assert_array_equal(same, plain)


@pytest.mark.parametrize("layers", [(), ("conv9_9",), ("pixels", "pixels")])
def test_wrong_layers(layers):
    with pytest.raises(InputError, match="vgg16"):
        BACKBONES["vgg16"].checked_layers(layers)
