"""How their numbers become ours, and back: axes, fully connected layers, batch normalisation.

PyTorch keeps a convolution's weight as OIHW and a fully connected one as [outputs, inputs], its
inputs in the order channel, row, column; ours are HWIO, a fully connected layer being a
convolution that sees all of its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from conversion.tensors import Tensor
from perceptual_jax.weights import WeightsError

__all__ = ["BATCH_NORM_EPSILON", "channels", "folded", "kernel", "theirs", "vector"]

BATCH_NORM_EPSILON = 1e-5
"""PyTorch's default, which torchvision and timm leave as it is."""

_BLOCK = 2**23  # Bytes read at a time.

# What is too large for float32 becomes infinite, a negative variance's root NaN: whoever checks
# the tensors says so, once.
_quietly = np.errstate(over="ignore", invalid="ignore")


@_quietly
def kernel(name: str, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """A kernel HWIO of this shape, in float32, from a weight OIHW or [O, I H W].

    Raises:
      WeightsError: if the weight has another shape.
    """
    rows, columns, inputs, outputs = shape
    wanted = (outputs, inputs, rows, columns)
    flat = (outputs, inputs * rows * columns)
    if tensor.shape not in (wanted, flat):
        raise _another_shape(name, tensor, wanted, flat)
    result = np.empty(shape, np.float32)
    # A block of outputs at a time: the file need not be in memory beside what is made of it.
    step = max(1, _BLOCK // (4 * math.prod(wanted[1:])))
    for start in range(0, outputs, step):
        block = tensor.rows(start, min(start + step, outputs))
        block = block.astype(np.float32, copy=False).reshape(-1, *wanted[1:])
        result[..., start : start + len(block)] = block.transpose(2, 3, 1, 0)
    return result


@_quietly
def vector(name: str, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """A vector of this shape, in float32.

    Raises:
      WeightsError: if the tensor has another shape.
    """
    if tensor.shape != shape:
        raise _another_shape(name, tensor, shape)
    return tensor.read().astype(np.float32, copy=False)


@_quietly
def channels(
    name: str, tensor: Tensor, start: int, shape: tuple[int, ...], total: int
) -> np.ndarray:
    """The part of a vector [1, total, 1, 1] that begins at `start`, in float32.

    Raises:
      WeightsError: if the tensor has another shape.
    """
    if tensor.shape != (1, total, 1, 1):
        raise _another_shape(name, tensor, (1, total, 1, 1))
    return tensor.read().reshape(total)[start : start + shape[0]].astype(np.float32, copy=False)


@_quietly
def folded(
    kernel: np.ndarray, bias: np.ndarray | None, norm: Callable[[str], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A convolution and the batch normalisation after it as one convolution.

    gamma (w * x + b - mean) / sqrt(variance + epsilon) + beta, computed in float64.

    Args:
      kernel: HWIO.
      bias: [O], or None.
      norm: gives "weight", "bias", "running_mean" and "running_var", each [O].

    Returns:
      Its kernel and bias, float32.
    """
    variance = norm("running_var").astype(np.float64)
    scale = norm("weight").astype(np.float64) / np.sqrt(variance + BATCH_NORM_EPSILON)
    shift = -norm("running_mean").astype(np.float64)
    if bias is not None:
        shift = shift + bias
    return (
        (kernel * scale).astype(np.float32),
        (shift * scale + norm("bias")).astype(np.float32),
    )


def theirs(kernel: np.ndarray, *, fully_connected: bool) -> np.ndarray:
    """The weight OIHW, or [O, I H W], of a kernel HWIO."""
    weight = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    return weight.reshape(len(weight), -1) if fully_connected else weight


def _another_shape(name: str, tensor: Tensor, *wanted: tuple[int, ...]) -> WeightsError:
    shapes = " or ".join(str(list(shape)) for shape in wanted)
    return WeightsError(f"{name} has the shape {list(tensor.shape)}, wanted {shapes}")
