"""Convolution of NHWC images with HWIO kernels: one meaning, and the fastest form of it.

Which form is fastest depends on the platform, which is known only when a program is lowered: hence
a primitive of its own, with a lowering for CPUs. The gradient in the images is the primitive
again, with the kernel turned around, and so finds its own form.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from perceptual_jax._typing import Array, Float
from perceptual_jax.ops.convolution_forms import Form, direct, patches, strips, winograd
from perceptual_jax.ops.platform import in_one_type, on_cpu

__all__ = ["conv2d", "fastest_on_cpu"]


def conv2d(
    images: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c o"],
    bias: Float[Array, " o"] | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    precision: jax.lax.Precision = jax.lax.Precision.HIGHEST,
) -> Float[Array, "n oh ow o"]:
    """Cross-correlation with zero padding, as deep-learning libraries mean "convolution".

    Kernel and bias follow the images' dtype.
    """
    kernel = kernel.astype(images.dtype)
    square = kernel.shape[0] == kernel.shape[1] > padding
    if square and (stride == 1 or on_cpu()) and in_one_type(images, kernel):
        convolve = _convolve.bind
    else:
        convolve = direct
    output = convolve(
        images, kernel, stride=stride, padding=padding, precision=precision, turned=False
    )
    return output if bias is None else output + bias.astype(images.dtype).reshape(1, 1, 1, -1)


# --- Which form ----------------------------------------------------------------------------


def fastest_on_cpu(
    images: tuple[int, ...], kernel: tuple[int, ...], dtype: Any, padding: int, *, turned: bool
) -> Form:
    """The form to take on CPU.

    Measured on 2 cores with AVX-512, float32, in ms, padding to the same size; `n, side, c -> o`:

    | images and kernel | direct | form | turned: direct | form |
    |---|---:|---:|---:|---:|
    | 8, 64, 64 -> 64, 3x3 | 16.4 | strips 10.7 | 16.6 | strips 12.3 |
    | 8, 32, 64 -> 128, 3x3 | 8.4 | strips 5.4 | 8.3 | strips 5.4 |
    | 8, 16, 256 -> 256, 3x3 | 9.5 | winograd 7.3 | 10.2 | winograd 6.9 |
    | 1, 64, 256 -> 256, 3x3 | 18.5 | winograd 12.4 | 19.0 | winograd 12.9 |
    | 1, 32, 512 -> 512, 3x3 | 19.6 | winograd 13.3 | 22.5 | winograd 13.5 |
    | 8, 4, 512 -> 512, 3x3 | 4.5 | patches 3.1 | 7.2 | patches 2.7 |
    | 1, 8, 512 -> 512, 3x3 | 2.4 | patches 2.0 | 4.6 | patches 1.6 |
    | 8, 64, 64 -> 3, 3x3 | | | 2.8 | patches 1.2 |
    | 1, 122, 256 -> 3, 7x7 | | | 44.8 | patches 6.1 |
    | 4, 31, 64 -> 192, 5x5 | 12.5 | strips 11.2 | 18.5 | patches 11.1 |
    | 4, 15, 192 -> 384, 3x3 | 5.9 | direct | 6.4 | patches 4.6 |
    | 8, 7, 64 -> 192, 5x5 | 2.2 | patches 1.7 | 2.3 | patches 1.9 |

    Args:
      images: shape [n, h, w, c].
      kernel: shape [k, k, c, o], or [k, k, o, c] if turned.
      dtype: of both.
      padding: in pixels, on every side.
      turned: whether the kernel is rotated by 180 degrees.
    """
    n, _, _, channels = images
    size, outputs = kernel[0], kernel[2 if turned else 3]
    height, width = (side + 2 * padding - size + 1 for side in images[1:3])
    if size == 1:
        return direct
    if turned and (outputs <= 4 or size >= 5):
        return patches
    if dtype == np.float32 and size == 3:
        tiles = n * -(-height // 4) * -(-width // 4)
        filled = n * height * width >= 12 * tiles
        if min(channels, outputs) >= 256 and filled and tiles >= (64 if turned else 32):
            return winograd
    # Writing the patches of more pixels costs more than it saves; turned, there are none.
    if turned:
        few = n * height * width <= 1024 and width <= 16
    else:
        few = n * height * width <= (1024 if width <= 8 else 512 if channels >= 512 else 0)
    if few and size**2 * channels >= 1152:
        return patches
    if (
        dtype == np.float32
        and channels >= 64
        and height >= 8
        and width * outputs < 8192
        and (outputs <= 64 or channels <= 64)
    ):
        return strips
    return direct


# --- The primitive -------------------------------------------------------------------------

_convolve = Primitive("conv2d")
_convolve.def_impl(partial(xla.apply_primitive, _convolve))


@_convolve.def_abstract_eval
def _shape(images: Any, kernel: Any, *, stride: int, padding: int, turned: bool, **_: Any) -> Any:
    size, outputs = kernel.shape[0], kernel.shape[2 if turned else 3]
    height, width = ((side + 2 * padding - size) // stride + 1 for side in images.shape[1:3])
    return images.update(shape=(images.shape[0], height, width, outputs))


def _in_images(
    cotangent: Array,
    images: Any,
    kernel: Array,
    *,
    stride: int,
    padding: int,
    turned: bool,
    **options: Any,
) -> Array:
    """Convolves with the kernel the other way around, wherever it touched an image.

    At a stride, the pixels of a block of `stride` by `stride` are channels: AlexNet's first layer
    takes 3.6 ms so for 4 images of 256 px, and 15.3 as a convolution of cotangents spread out.
    """
    if stride > 1:
        kernel = _of_blocks(kernel, stride)
        crop, padding = padding, 0
    spread = _convolve.bind(
        cotangent,
        kernel,
        stride=1,
        padding=kernel.shape[0] - 1 - padding,
        turned=not turned,
        **options,
    )
    return spread if stride == 1 else _unfolded(spread, images.aval.shape, stride, crop)


def _of_blocks(kernel: Array, stride: int) -> Array:
    """A kernel [k, k, c, o] over blocks of pixels: [k/s, k/s, s*s*c, o], filled up with zeros."""
    size, _, channels, outputs = kernel.shape
    blocks = -(-size // stride)
    beyond = (0, blocks * stride - size)
    apart = jnp.pad(kernel, (beyond, beyond, (0, 0), (0, 0)))
    apart = apart.reshape(blocks, stride, blocks, stride, channels, outputs)
    return apart.transpose(0, 2, 1, 3, 4, 5).reshape(blocks, blocks, -1, outputs)


def _unfolded(blocks: Array, shape: tuple[int, ...], stride: int, padding: int) -> Array:
    """Blocks as pixels, without the padding: from [n, h', w', s*s*c] to the shape [n, h, w, c]."""
    n, height, width, channels = shape
    down, across = blocks.shape[1:3]
    pixels = blocks.reshape(n, down, across, stride, stride, channels).transpose(0, 1, 3, 2, 4, 5)
    pixels = pixels.reshape(n, down * stride, across * stride, channels)
    seen = pixels[:, padding : padding + height, padding : padding + width]
    unseen = ((0, side - there) for side, there in zip(shape[1:3], seen.shape[1:3], strict=True))
    return jnp.pad(seen, ((0, 0), *unseen, (0, 0)))


def _in_kernel(cotangent: Array, images: Array, kernel: Any, **options: Any) -> Array:
    (gradient,) = jax.linear_transpose(
        lambda kernel: direct(images, kernel, **options), kernel.aval
    )(cotangent)
    return gradient


ad.defbilinear(_convolve, _in_images, _in_kernel)


def _batched(
    operands: tuple[Array, Array], axes: tuple[int | None, int | None], **options: Any
) -> tuple[Array, int]:
    images, kernel = operands
    of_images, of_kernel = axes
    if of_images is None or of_kernel is not None:
        each = jax.vmap(lambda images, kernel: direct(images, kernel, **options), in_axes=axes)
        return each(images, kernel), 0
    images = jnp.moveaxis(images, of_images, 0)
    convolved = _convolve.bind(images.reshape(-1, *images.shape[2:]), kernel, **options)
    return convolved.reshape(*images.shape[:2], *convolved.shape[1:]), 0


batching.primitive_batchers[_convolve] = _batched


def _lowered_on_cpu(context: mlir.LoweringRuleContext, *operands: Any, **options: Any) -> Any:
    images, kernel = context.avals_in
    form: Form = direct
    # All but `direct` cut images up, which must not move what is spread over devices.
    one_device = getattr(context.module_context.axis_context, "num_devices", None) == 1
    if one_device and options["stride"] == 1:
        form = fastest_on_cpu(
            images.shape,  # type: ignore[attr-defined]
            kernel.shape,  # type: ignore[attr-defined]
            images.dtype,  # type: ignore[attr-defined]
            options["padding"],
            turned=options["turned"],
        )
    if form is not direct:
        options.pop("stride")
    return mlir.lower_fun(form, multiple_results=False)(context, *operands, **options)


mlir.register_lowering(_convolve, mlir.lower_fun(direct, multiple_results=False))
mlir.register_lowering(_convolve, _lowered_on_cpu, platform="cpu")
