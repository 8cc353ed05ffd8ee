"""DCGAN's networks: codes become images, images become codes.

The generator projects a code to 4x4 pixels of many channels, and doubles the sides until they are
the image's; the encoder goes the other way. Batch normalisation stands between the layers: by the
batch while they are trained, by running averages when they are used.

References:
  A. Radford, L. Metz, S. Chintala, "Unsupervised Representation Learning with Deep Convolutional
  Generative Adversarial Networks", ICLR 2016, https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.common.batch_normalisation import normalise, rectify
from perceptual_jax._typing import Array, Float, Key
from perceptual_jax.errors import InputError
from perceptual_jax.ops.convolution import conv2d
from perceptual_jax.ops.transposed_convolution import conv_transpose2d
from perceptual_jax.ops.value_range import at_least_float32

__all__ = [
    "Autoencoder",
    "ComputedIn",
    "Encoder",
    "Generator",
    "Network",
    "network",
    "parameter_count",
    "widths",
]

ComputedIn = Literal["float32", "bfloat16"]
"""What a network computes in. What is trained, statistics of batches and outputs stay float32."""

_FEWEST, _MOST, _SMALLEST = 64, 512, 4
_LEAK = 0.2
_PRECISION = jax.lax.Precision.HIGHEST
_NORMAL = nn.initializers.normal(0.02)
_MOMENTUM = 0.9


def widths(size: int, width: float = 1.0) -> dict[int, int]:
    """How many channels the maps of every side have, from 4x4 up to half the image's side.

    Args:
      size: of the images, in pixels: a power of two, at least 16.
      width: what the published numbers of channels are multiplied by.

    Returns:
      `{side: channels}`.

    Raises:
      InputError: for a size that is not a power of two, or a width that leaves no channels.

    Example:
      >>> from experiments.common.generators import widths
      >>> widths(128)
      {4: 512, 8: 512, 16: 256, 32: 128, 64: 64}
      >>> widths(64)
      {4: 512, 8: 256, 16: 128, 32: 64}
    """
    if size < 16 or size & (size - 1):
        raise InputError(f"--size must be a power of two, at least 16 (64 or 128, say); got {size}")
    if not 1 / _FEWEST <= width <= 16:
        raise InputError(f"--width must be at least {1 / _FEWEST:g} and at most 16; got {width}")
    sides = [_SMALLEST * 2**k for k in range(size.bit_length() - _SMALLEST.bit_length())]
    return {side: round(width * min(_MOST, _FEWEST * size // (2 * side))) for side in sides}


# --- The layers ----------------------------------------------------------------------------


class Grow(nn.Module):
    """A transposed convolution that doubles the sides."""

    channels: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, images: Array) -> Array:
        kernel = self.param("kernel", _NORMAL, (4, 4, images.shape[-1], self.channels))
        zeros = nn.initializers.zeros
        bias = self.param("bias", zeros, (self.channels,)) if self.use_bias else None
        return conv_transpose2d(images, kernel, bias, precision=_PRECISION)


class Shrink(nn.Module):
    """A convolution that halves the sides."""

    channels: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, images: Array) -> Array:
        kernel = self.param("kernel", _NORMAL, (4, 4, images.shape[-1], self.channels))
        zeros = nn.initializers.zeros
        bias = self.param("bias", zeros, (self.channels,)) if self.use_bias else None
        return conv2d(images, kernel, bias, stride=2, padding=1, precision=_PRECISION)


class Normalise(nn.Module):
    """Batch normalisation and a ReLU with this slope below 0."""

    slope: float

    @nn.compact
    def __call__(self, images: Array, *, training: bool) -> Array:
        channels = (images.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        shift = self.param("shift", nn.initializers.zeros, channels)
        mean = self.variable("running", "mean", jnp.zeros, channels)
        variance = self.variable("running", "variance", jnp.ones, channels)
        count = self.variable("running", "count", jnp.zeros, ())
        if not training:
            rate = scale * jax.lax.rsqrt(variance.value + 1e-5)
            shift = shift - mean.value * rate
            output = rectify(
                images * rate.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1), self.slope
            )
            return output.astype(images.dtype)
        output, now, spread = normalise(images, scale, shift, self.slope)
        if not self.is_initializing():
            # The plain mean of the first ten batches: what was there before them counts nothing.
            part = jnp.maximum(1 / (count.value + 1), 1 - _MOMENTUM)
            mean.value += part * (jax.lax.stop_gradient(now) - mean.value)
            variance.value += part * (jax.lax.stop_gradient(spread) - variance.value)
            count.value += 1
        return output


# --- The networks --------------------------------------------------------------------------


class Generator(nn.Module):
    """Codes to images in [0, 1]; layers are named by the sides that they make.

    Attributes:
      size: of the images, in pixels.
      width: see `widths`.
      dtype: to compute in; by default that of the codes.
    """

    size: int
    width: float = 1.0
    dtype: ComputedIn | None = None

    @nn.compact
    def __call__(self, codes: Float[Array, "n c"], *, training: bool) -> Array:
        """[n, c] to [n, size, size, 3]."""
        channels = widths(self.size, self.width)
        codes = codes.astype(self.dtype or codes.dtype)
        first = nn.Dense(
            _SMALLEST**2 * channels[_SMALLEST],
            use_bias=False,
            kernel_init=_NORMAL,
            precision=_PRECISION,
            dtype=codes.dtype,
            name=f"to_{_SMALLEST}",
        )
        images = first(codes).reshape(-1, _SMALLEST, _SMALLEST, channels[_SMALLEST])
        images = Normalise(0.0, name=f"normalise_{_SMALLEST}")(images, training=training)
        for side, count in channels.items():
            if side > _SMALLEST:
                images = Grow(count, name=f"to_{side}")(images)
                images = Normalise(0.0, name=f"normalise_{side}")(images, training=training)
        images = Grow(3, use_bias=True, name=f"to_{self.size}")(images)
        # Near white, numbers of bfloat16 are a whole level of the display apart.
        return (jnp.tanh(at_least_float32(images)) + 1) / 2


class Encoder(nn.Module):
    """Images in [0, 1] to codes; layers are named likewise.

    Attributes:
      code: how many numbers make one.
      width: see `widths`.
      dtype: to compute in; by default that of the images.
    """

    code: int
    width: float = 1.0
    dtype: ComputedIn | None = None

    @nn.compact
    def __call__(self, images: Float[Array, "n h w 3"], *, training: bool) -> Array:
        """[n, size, size, 3] to [n, code]."""
        size = images.shape[1]
        images = (2 * images - 1).astype(self.dtype or images.dtype)
        for side, count in reversed(widths(size, self.width).items()):
            outermost = 2 * side == size
            images = Shrink(count, use_bias=outermost, name=f"to_{side}")(images)
            if outermost:
                images = rectify(images, _LEAK)
            else:
                images = Normalise(_LEAK, name=f"normalise_{side}")(images, training=training)
        last = nn.Dense(
            self.code,
            kernel_init=_NORMAL,
            precision=_PRECISION,
            dtype=images.dtype,
            name="to_code",
        )
        return at_least_float32(last(images.reshape(len(images), -1)))


class Autoencoder(nn.Module):
    """An encoder, then a generator: images to what is left of them after a code.

    The code between them is of float32 at least.
    """

    size: int
    code: int
    width: float = 1.0
    dtype: ComputedIn | None = None

    def setup(self) -> None:
        """Makes both."""
        self.encoder = Encoder(self.code, self.width, self.dtype)
        self.generator = Generator(self.size, self.width, self.dtype)

    def __call__(self, images: Array, *, training: bool) -> Array:
        """Images to images."""
        return self.generator(self.encoder(images, training=training), training=training)

    def encode(self, images: Array, *, training: bool) -> Array:
        """Images to codes."""
        return self.encoder(images, training=training)

    def generate(self, codes: Array, *, training: bool) -> Array:
        """Codes to images."""
        return self.generator(codes, training=training)


class Network(NamedTuple):
    """A network as pure functions.

    Attributes:
      init: `key -> (params, running)`: what is trained, and the running averages.
      train: `(params, running, inputs) -> (outputs, running)`: normalises by the batch.
      use: `(params, running, inputs) -> outputs`: normalises by the running averages.
    """

    init: Any
    train: Any
    use: Any


def network(module: nn.Module, inputs: tuple[int, ...], method: str | None = None) -> Network:
    """A module behind init, train and use.

    Args:
      module: one of those above, or like them; it may have no running averages.
      inputs: the shape of what it takes, with any n.
      method: its method; by default it is called.
    """

    @jax.jit  # Its pass through the network is then left out: the numbers drawn are all it needs.
    def init(key: Key) -> tuple[Any, Any]:
        variables = module.init(key, jnp.zeros(inputs), training=True)
        return variables["params"], variables.get("running", {})

    def train(params: Any, running: Any, inputs: Array) -> tuple[Array, Any]:
        variables = {"params": params, "running": running}
        outputs, changed = module.apply(
            variables, inputs, training=True, method=method, mutable=["running"]
        )
        return outputs, changed.get("running", {})

    def use(params: Any, running: Any, inputs: Array) -> Array:
        variables = {"params": params, "running": running}
        return module.apply(variables, inputs, training=False, method=method)

    return Network(init, train, use)


def parameter_count(params: Any) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
