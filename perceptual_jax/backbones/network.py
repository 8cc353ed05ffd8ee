"""A frozen convolutional network as a table of layers, and the functions that read the table.

A network here has no state and no randomness of its own: params in, features out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Float, Key
from perceptual_jax.errors import InputError, choice
from perceptual_jax.ops.convolution import conv2d
from perceptual_jax.ops.pooling import max_pool

__all__ = ["PIXELS", "Backbone", "Conv", "LayerParams", "MaxPool", "ReLU"]

PIXELS = "pixels"
"""The name under which a network's input counts as a layer."""

LayerParams: TypeAlias = Mapping[str, Mapping[str, Array]]
"""`{layer: {"kernel": HWIO, "bias": [O]}}`."""


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


class ReLU(NamedTuple):
    """max(x, 0)."""

    name: str


class MaxPool(NamedTuple):
    """Max pooling without padding."""

    name: str
    size: int
    stride: int


class Backbone(NamedTuple):
    """A named network: its layers in order.

    Attributes:
      name: the name of its pretrained weight set.
      layers: the table.
    """

    name: str
    layers: tuple[Conv | ReLU | MaxPool, ...]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """What `features` can be asked for: the input, then every layer."""
        return (PIXELS, *(layer.name for layer in self.layers))

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """The layers that have params."""
        return tuple(layer for layer in self.layers if isinstance(layer, Conv))

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
            if isinstance(layer, Conv):
                x = conv2d(
                    x,
                    params[layer.name]["kernel"],
                    params[layer.name]["bias"],
                    stride=layer.stride,
                    padding=layer.padding,
                    precision=precision,
                )
            elif isinstance(layer, ReLU):
                x = jax.nn.relu(x)
            else:
                x = max_pool(x, layer.size, layer.stride)
            if layer.name in wanted:
                found[layer.name] = x
        return found

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

    def smallest_input(self, names: Iterable[str]) -> int:
        """The least side, in pixels, for which every layer named has an output."""
        wanted = set(names) - {PIXELS}
        # Backwards through the table: the input that gives one output at the deepest layer.
        side = 1
        passed = False
        for layer in reversed(self.layers):
            passed = passed or layer.name in wanted
            if passed and not isinstance(layer, ReLU):
                padding = layer.padding if isinstance(layer, Conv) else 0
                side = max(1, (side - 1) * layer.stride + layer.size - 2 * padding)
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
