"""A frozen convolutional network as a table of layers, and the functions that read the table.

A network here has no state and no randomness of its own: params in, features out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Float, Key
from perceptual_jax.errors import InputError, choice
from perceptual_jax.ops.convolution import conv2d
from perceptual_jax.ops.pooling import adaptive_average_pool, max_pool
from perceptual_jax.ops.safe import positive_part

__all__ = [
    "PIXELS",
    "AdaptiveAveragePool",
    "Backbone",
    "Conv",
    "FeatureLayer",
    "Fire",
    "Layer",
    "LayerParams",
    "MaxPool",
    "ReLU",
    "ReceptiveField",
]

PIXELS = "pixels"
"""The name under which a network's input counts as a layer."""

LayerParams: TypeAlias = Mapping[str, Mapping[str, Array]]
"""`{layer: {"kernel": HWIO, "bias": [O]}}`."""


class ReceptiveField(NamedTuple):
    """Which pixels of the input one output of a layer sees.

    Attributes:
      size: its side, in pixels.
      stride: how far apart, in pixels, the fields of neighbouring outputs are.
      centre: where the field of the first output is centred, in pixels from the centre of the
        first pixel; padding can put it outside.
    """

    size: int
    stride: int
    centre: float

    def after(self, size: int, stride: int, padding: int) -> ReceptiveField:
        """The field of a window of this size, stride and padding over such outputs."""
        return ReceptiveField(
            self.size + (size - 1) * self.stride,
            self.stride * stride,
            self.centre + ((size - 1) / 2 - padding) * self.stride,
        )


# --- Layers ----------------------------------------------------------------------------------


@runtime_checkable
class Layer(Protocol):
    """What a table is made of."""

    @property
    def name(self) -> str:
        """Unique in its network."""

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """What has params in it."""

    def apply(self, params: LayerParams, x: Array, precision: jax.lax.Precision) -> Array:
        """[n, h, w, c] -> [n, h', w', c']."""


@runtime_checkable
class FeatureLayer(Layer, Protocol):
    """A layer that sees a part of its input."""

    def field(self, inputs: ReceptiveField) -> ReceptiveField:
        """The receptive field, given that of the layer before."""

    def smallest_input(self, side: int) -> int:
        """The least side that gives an output of this side."""


class Conv(NamedTuple):
    """A convolution with zero padding and a bias."""

    name: str
    inputs: int
    outputs: int
    size: int
    stride: int = 1
    padding: int = 0

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """HWIO."""
        return (self.size, self.size, self.inputs, self.outputs)

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """Itself."""
        return (self,)

    def apply(self, params: LayerParams, x: Array, precision: jax.lax.Precision) -> Array:
        """[n, h, w, inputs] -> [n, h', w', outputs]."""
        return conv2d(
            x,
            params[self.name]["kernel"],
            params[self.name]["bias"],
            stride=self.stride,
            padding=self.padding,
            precision=precision,
        )

    def field(self, inputs: ReceptiveField) -> ReceptiveField:
        """The receptive field, given that of the layer before."""
        return inputs.after(self.size, self.stride, self.padding)

    def smallest_input(self, side: int) -> int:
        """The least side that gives an output of this side."""
        return max(1, (side - 1) * self.stride + self.size - 2 * self.padding)


class ReLU(NamedTuple):
    """max(x, 0), or another rule in its place."""

    name: str
    rectify: Callable[[Array], Array] = positive_part

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """None."""
        return ()

    def apply(self, params: LayerParams, x: Array, precision: jax.lax.Precision) -> Array:
        """[n, h, w, c], rectified."""
        return self.rectify(x)

    def field(self, inputs: ReceptiveField) -> ReceptiveField:
        """That of the layer before."""
        return inputs

    def smallest_input(self, side: int) -> int:
        """The same side."""
        return side


class MaxPool(NamedTuple):
    """Max pooling; with `ceil`, a last window may reach over the border."""

    name: str
    size: int
    stride: int
    ceil: bool = False

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """None."""
        return ()

    def apply(self, params: LayerParams, x: Array, precision: jax.lax.Precision) -> Array:
        """[n, h, w, c] -> [n, h', w', c]."""
        return max_pool(x, self.size, self.stride, ceil=self.ceil)

    def field(self, inputs: ReceptiveField) -> ReceptiveField:
        """The receptive field, given that of the layer before."""
        return inputs.after(self.size, self.stride, 0)

    def smallest_input(self, side: int) -> int:
        """The least side that gives an output of this side."""
        return (side - 1) * self.stride + self.size - (self.stride - 1 if self.ceil else 0)


class Fire(NamedTuple):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 ones side by side; ReLU after each.

    Its convolutions are called `{name}_squeeze`, `{name}_expand1x1` and `{name}_expand3x3`.
    """

    name: str
    inputs: int
    squeeze: int
    expand: int
    rectify: Callable[[Array], Array] = positive_part

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """squeeze, expand1x1, expand3x3."""
        return (
            Conv(f"{self.name}_squeeze", self.inputs, self.squeeze, size=1),
            Conv(f"{self.name}_expand1x1", self.squeeze, self.expand, size=1),
            Conv(f"{self.name}_expand3x3", self.squeeze, self.expand, size=3, padding=1),
        )

    def apply(self, params: LayerParams, x: Array, precision: jax.lax.Precision) -> Array:
        """[n, h, w, inputs] -> [n, h, w, 2 expand]."""
        squeeze, *expands = self.convolutions
        squeezed = self.rectify(squeeze.apply(params, x, precision))
        expanded = [expand.apply(params, squeezed, precision) for expand in expands]
        return self.rectify(jnp.concatenate(expanded, axis=-1))

    def field(self, inputs: ReceptiveField) -> ReceptiveField:
        """That of its 3x3 half."""
        return inputs.after(3, 1, 1)

    def smallest_input(self, side: int) -> int:
        """The same side."""
        return side


class AdaptiveAveragePool(NamedTuple):
    """Means over size x size nearly equal parts, whatever the image's size."""

    name: str
    size: int

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """None."""
        return ()

    def apply(self, params: LayerParams, x: Array, precision: jax.lax.Precision) -> Array:
        """[n, h, w, c] -> [n, size, size, c]."""
        return adaptive_average_pool(x, self.size)


# --- Networks ------------------------------------------------------------------------------


class Backbone(NamedTuple):
    """A named network: its layers in order.

    Attributes:
      name: the name of its pretrained weight set.
      layers: the table of the layers whose outputs are features.
      classifier: the table of those that make ImageNet's 1,000 classes of the last feature;
        their weights are a set of their own, `{name}-classifier`. A fully connected layer is a
        convolution that sees the whole of its input.
    """

    name: str
    layers: tuple[FeatureLayer, ...]
    classifier: tuple[Layer, ...] = ()

    @property
    def layer_names(self) -> tuple[str, ...]:
        """What `features` can be asked for: the input, then every layer."""
        return (PIXELS, *(layer.name for layer in self.layers))

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """What has params, the classifier's apart."""
        return tuple(conv for layer in self.layers for conv in layer.convolutions)

    @property
    def classifier_convolutions(self) -> tuple[Conv, ...]:
        """What has params in the classifier."""
        return tuple(conv for layer in self.classifier for conv in layer.convolutions)

    def with_rectifier(self, rectify: Callable[[Array], Array]) -> Backbone:
        """The same network with another function in the place of every ReLU among its features.

        With one whose gradient follows another rule, gradients of the features do: guided
        backpropagation is a function and not a hook.

        Args:
          rectify: works on each number by itself.

        Example:
          >>> from perceptual_jax.backbones import BACKBONES
          >>> linear = BACKBONES["vgg16"].with_rectifier(lambda x: x)
        """
        return self._replace(
            layers=tuple(
                layer._replace(rectify=rectify) if isinstance(layer, ReLU | Fire) else layer
                for layer in self.layers
            )
        )

    def features(
        self,
        params: LayerParams,
        images: Float[Array, "n h w 3"],
        layers: Iterable[str],
        *,
        precision: jax.lax.Precision = jax.lax.Precision.HIGHEST,
    ) -> dict[str, Array]:
        """The outputs of the layers asked for; nothing after the deepest of them is computed.

        Args:
          params: `{layer: {"kernel": HWIO, "bias": [O]}}`; they follow the images' dtype.
          images: what the network is fed, already normalised.
          layers: names from `layer_names`.
          precision: of the products.

        Returns:
          `{layer: [n, h', w', c']}`, in the network's order.
        """
        wanted = set(layers)
        found = {PIXELS: images} if PIXELS in wanted else {}
        x = images
        for layer in self.layers:
            if len(found) == len(wanted):
                break
            x = layer.apply(params, x, precision)
            if layer.name in wanted:
                found[layer.name] = x
        return found

    def logits(
        self,
        params: LayerParams,
        images: Float[Array, "n h w 3"],
        *,
        precision: jax.lax.Precision = jax.lax.Precision.HIGHEST,
    ) -> Float[Array, "n 1000"]:
        """The scores of ImageNet's classes, before the softmax.

        Args:
          params: those of the features and those of the classifier,
            `weights.read("vgg16") | weights.read("vgg16-classifier")`.
          images: normalised as in training; 224 px is what the networks were trained on.
          precision: of the products.
        """
        last = self.layers[-1].name
        x = self.features(params, images, (last,), precision=precision)[last]
        for layer in self.classifier:
            x = layer.apply(params, x, precision)
        return x.reshape(x.shape[0], -1)

    def checked_layers(self, names: Iterable[str]) -> tuple[str, ...]:
        """Returns the names as a tuple; raises `InputError` for none, strangers and repeats."""
        names = tuple(names)
        if not names:
            raise InputError(f"{self.name}: layers must name at least one layer")
        for name in names:
            choice(f"{self.name}: a layer", name, self.layer_names)
        if len(set(names)) < len(names):
            raise InputError(f"{self.name}: layers must not repeat; got {names}")
        return names

    def channels(self, name: str) -> int:
        """The number of channels of a layer's output.

        Raises:
          InputError: if there is no such layer.
        """
        choice(f"{self.name}: a layer", name, self.layer_names)
        channels = 3
        for layer in self.layers[: self.layer_names.index(name)]:
            if isinstance(layer, Conv):
                channels = layer.outputs
            elif isinstance(layer, Fire):
                channels = 2 * layer.expand
        return channels

    def receptive_field(self, name: str) -> ReceptiveField:
        """Which pixels one output of a layer sees.

        Raises:
          InputError: if there is no such layer.

        Example:
          >>> from perceptual_jax.backbones import BACKBONES
          >>> BACKBONES["vgg16"].receptive_field("relu3_3")
          ReceptiveField(size=40, stride=4, centre=1.5)
        """
        choice(f"{self.name}: a layer", name, self.layer_names)
        field = ReceptiveField(size=1, stride=1, centre=0.0)
        depth = self.layer_names.index(name)
        for layer in self.layers[:depth]:
            field = layer.field(field)
        return field

    def smallest_input(self, names: Iterable[str]) -> int:
        """The least side, in pixels, for which every layer named has an output."""
        wanted = set(names) - {PIXELS}
        # Backwards through the table: the input that gives one output at the deepest layer.
        side = 1
        passed = False
        for layer in reversed(self.layers):
            passed = passed or layer.name in wanted
            if passed:
                side = layer.smallest_input(side)
        return side

    def random_params(self, key: Key, *, zero_mean_first: bool = False) -> dict[str, dict]:
        """Kaiming normal kernels (fan-in, ReLU gain: variance 2 / (k k inputs)), zero biases.

        Args:
          key: a JAX key; each layer folds its index into it.
          zero_mean_first: take from every filter of the first convolution its spatial mean per
            input channel, so that it answers to contrast and not to brightness.

        References:
          K. He et al., "Delving Deep into Rectifiers", ICCV 2015.
        """
        dtype = jnp.result_type(float)
        params = {}
        for index, layer in enumerate(self.convolutions):
            deviation = math.sqrt(2.0 / (layer.size * layer.size * layer.inputs))
            draw = jax.random.normal(jax.random.fold_in(key, index), layer.kernel_shape, dtype)
            kernel = deviation * draw
            if index == 0 and zero_mean_first:
                kernel = kernel - kernel.mean(axis=(0, 1), keepdims=True)
            params[layer.name] = {"kernel": kernel, "bias": jnp.zeros(layer.outputs, dtype)}
        return params
