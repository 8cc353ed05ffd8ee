"""Transposed convolution that doubles the sides, the layer generators are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.platform import on_cpu

__all__ = ["conv_transpose2d"]

_SIZE, _STRIDE = 4, 2


def conv_transpose2d(
    images: Float[Array, "n h w c"],
    kernel: Float[Array, "4 4 c o"],
    bias: Float[Array, " o"] | None = None,
    *,
    precision: jax.lax.Precision = jax.lax.Precision.HIGHEST,
) -> Float[Array, "n 2*h 2*w o"]:
    """The gradient of a 4x4 convolution of stride 2 and padding 1 in its images.

    What PyTorch's `conv_transpose2d(images, kernel, stride=2, padding=1)` is, in NHWC. Kernel and
    bias follow the images' dtype.
    """
    kernel = kernel.astype(images.dtype)
    output = _form()(images, kernel, precision)
    return output if bias is None else output + bias.astype(images.dtype).reshape(1, 1, 1, -1)


# --- Forms ---------------------------------------------------------------------------------


def _form() -> Callable[[Array, Array, jax.lax.Precision], Array]:
    if not on_cpu():
        return _dilated
    # A few images at a time must not move what is spread over devices.
    return _few_at_a_time if jax.device_count() == 1 else _all_at_once


def _dilated(images: Array, kernel: Array, precision: jax.lax.Precision) -> Array:
    """What the compiler knows as a transposed convolution."""
    margin = _SIZE - 2
    return jax.lax.conv_general_dilated(
        images,
        jax.lax.rev(kernel, (0, 1)),
        window_strides=(1, 1),
        padding=((margin, margin), (margin, margin)),
        lhs_dilation=(_STRIDE, _STRIDE),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


_PRODUCT_BYTES = 2**23
"""Of a product that stays in the cache until it is added up. Of 64 images, value and gradients in
ms: 32x32x128 -> 64x64x64 takes 540 all at once and 303 so, 16x16x256 327 and 236, 8x8x512 248 and
240; 4x4x1024, whose kernel is larger than all its images, 242 and 312."""


def _few_at_a_time(images: Array, kernel: Array, precision: jax.lax.Precision) -> Array:
    """`_all_at_once` of parts of the batch.

    XLA's gradient in the kernel takes 9.0 s on 2 cores for 32 images, 32x32x128 -> 64x64x64.
    """
    n, height, width, channels = images.shape
    outputs = kernel.shape[-1]
    multiply = partial(_all_at_once, kernel=kernel, precision=precision)
    of_an_image = height * width * _SIZE * _SIZE * outputs * images.dtype.itemsize
    fits = max(_PRODUCT_BYTES // of_an_image, 1)
    count = max(size for size in range(1, min(n, fits) + 1) if n % size == 0)
    if count == n or count * height * width < channels or outputs < 16:
        return multiply(images)
    output = jax.lax.map(multiply, images.reshape(-1, count, *images.shape[1:]))
    return output.reshape(n, *output.shape[2:])


def _all_at_once(images: Array, kernel: Array, precision: jax.lax.Precision) -> Array:
    """One product gives the 4x4 outputs that every pixel adds to; they are added in place.

    Two columns of a row of four lie side by side in memory, and are one channel here. In the
    gradient the split becomes a concatenation, whose result both products share.
    """
    n, height, width, channels = images.shape
    outputs = kernel.shape[-1]
    product = jnp.matmul(
        images.reshape(n * height * width, channels),
        kernel.transpose(2, 0, 1, 3).reshape(channels, _SIZE * _SIZE * outputs),
        precision=precision,
    ).reshape(n, height, width, _SIZE * _SIZE * outputs)
    zero = jnp.zeros((), product.dtype)
    pairs = jax.lax.split(product, [_STRIDE * outputs] * (2 * _SIZE), axis=3)
    places = [(row, pair) for row in range(_SIZE) for pair in range(2)]
    total = reduce(
        jnp.add,
        (
            jax.lax.pad(
                part,
                zero,
                ((0, 0, 0), (row, _SIZE - 1 - row, _STRIDE - 1), (pair, 1 - pair, 0), (0, 0, 0)),
            )
            for part, (row, pair) in zip(pairs, places, strict=True)
        ),
    )
    whole = total.reshape(n, 2 * height + 2, 2 * width + 2, outputs)
    return whole[:, 1:-1, 1:-1]
