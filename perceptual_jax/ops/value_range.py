"""From images as users hold them to the range a distance is defined on, checked at trace time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, ImageLike, ValueRange
from perceptual_jax.errors import InputError, choice

__all__ = [
    "SIGNED",
    "UNIT",
    "TooSmallError",
    "as_dtype",
    "as_precision",
    "as_value_range",
    "at_least_float32",
    "mapper",
    "rounded",
    "turned_hint",
]

SIGNED = (-1.0, 1.0)
"""The range that LPIPS, networks and pixel distances are defined on."""
UNIT = (0.0, 1.0)
"""The range that SSIM and its kin are defined on."""

_PRECISIONS = {
    "highest": jax.lax.Precision.HIGHEST,
    "high": jax.lax.Precision.HIGH,
    "default": jax.lax.Precision.DEFAULT,
}


def as_value_range(value_range: ValueRange) -> tuple[float, float]:
    """Returns (low, high) as floats; raises `InputError` unless both are finite and low < high."""
    try:
        low, high = (float(bound) for bound in value_range)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"value_range must be two numbers; got {value_range!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"value_range must be finite and increasing; got {value_range!r}")
    return low, high


def as_dtype(dtype: Any) -> np.dtype | None:
    """Returns the floating dtype that `dtype` names, None for None (follow the images)."""
    if dtype is None:
        return None
    try:
        resolved = jnp.dtype(dtype)
    except TypeError:
        resolved = None
    if resolved is None or not jnp.issubdtype(resolved, jnp.floating):
        raise InputError(
            f"dtype must be None or a floating dtype such as 'bfloat16'; got {dtype!r}"
        )
    return resolved


def as_precision(precision: Any) -> jax.lax.Precision:
    """Returns the `jax.lax.Precision` named 'highest', 'high' or 'default'."""
    if isinstance(precision, jax.lax.Precision):
        return precision
    return _PRECISIONS[choice("precision", precision, _PRECISIONS)]


def at_least_float32(x: Array) -> Array:
    """Casts bfloat16 and float16 to float32; leaves wider floats as they are."""
    return x.astype(np.promote_types(x.dtype, np.float32))


def rounded(x: Array) -> Array:
    """X as it is: finite numbers and NaN do not change.

    Without it the CPU compiler fuses the scaling of one image into its difference from another,
    rounds the two apart, and a distance pushes pixels that agree.
    """
    lowest = float(jnp.finfo(x.dtype).min)
    return jnp.where(x < lowest, lowest, x)


class TooSmallError(InputError):
    """Images smaller than a distance is defined for.

    Attributes:
      needed: the smallest (height, width).
    """

    def __init__(self, name: str, needed: tuple[int, int], got: tuple[int, int], hint: str = ""):
        super().__init__(
            f"{name}: images must be at least {needed[0]}x{needed[1]} pixels; "
            f"got {got[0]}x{got[1]}{hint}"
        )
        self.needed = needed


LARGEST = 1e15
"""Of a pixel: distances made of squares are finite, and their gradients, for what is no larger."""


def mapper(
    name: str,
    value_range: ValueRange,
    native: tuple[float, float],
    *,
    dtype: Any = None,
    channels: int | None = None,
    min_size: tuple[int, int] = (1, 1),
    largest: float = LARGEST,
) -> Callable[[ImageLike], Array]:
    """Makes the function that every `embed` begins with: check the images, map their values.

    Args:
      name: the distance's name, for messages.
      value_range: (low, high) of float images; uint8 images always mean [0, 255].
      native: the (low, high) that the distance is defined on.
      dtype: the dtype to compute in; None follows the images (uint8 becomes the default float).
      channels: the number of channels wanted; None takes any.
      min_size: the smallest (height, width) the distance is defined for.
      largest: the largest absolute value of a pixel, for which the distance is finite.

    Returns:
      `prepare(images [n, h, w, c]) -> [n, h, w, c]`, floats in the native range.
      It raises `InputError` for a wrong rank, dtype, size or number of channels, and, outside of
      jit, for images that are not finite or larger. Inside, NaN goes through to the distance.
    """
    low, high = as_value_range(value_range)
    native_low, native_high = native
    dtype = as_dtype(dtype)

    def prepare(images: ImageLike) -> Array:
        images = _as_images(name, images, channels, min_size, largest)
        if images.dtype == jnp.uint8:
            from_low, from_high = 0.0, 255.0
            images = images.astype(dtype or jnp.result_type(float))
        else:
            from_low, from_high = low, high
            images = images.astype(dtype or images.dtype)
        if (from_low, from_high) == (native_low, native_high):
            return images
        scale = (native_high - native_low) / (from_high - from_low)
        return rounded((images - from_low) * scale + native_low)

    return prepare


def _as_images(
    name: str,
    images: ImageLike,
    channels: int | None,
    min_size: tuple[int, int],
    largest: float,
) -> Array:
    if not hasattr(images, "shape") or not hasattr(images, "dtype"):
        raise InputError(
            f"{name}: images must be an array [n, h, w, c]; got {type(images).__name__}"
        )
    shape = tuple(images.shape)
    if len(shape) != 4:
        hint = "; add the batch axis with images[None]" if len(shape) == 3 else ""
        raise InputError(f"{name}: images must be [n, h, w, c]; got shape {shape}{hint}")
    if images.dtype != np.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"{name}: images must be floats in the value range or uint8 in [0, 255]; "
            f"got dtype {images.dtype}"
        )
    _, height, width, depth = shape
    turned = turned_hint(shape, channels)
    if depth < 1 or (channels is not None and depth != channels):
        hint = turned
        if not hint and depth == 1:
            hint = f"; for grey images use jnp.repeat(images, {channels}, axis=-1)"
        elif not hint and depth == 4 and channels == 3:
            hint = "; drop the alpha channel with images[..., :3]"
        raise InputError(
            f"{name}: images must have {channels or 'at least 1'} channels (the last axis); "
            f"got shape {shape}{hint}"
        )
    if turned and min(width, depth) >= _NO_IMAGE:
        raise InputError(f"{name}: images must be [n, h, w, c]; got shape {shape}{turned}")
    if height < min_size[0] or width < min_size[1]:
        raise TooSmallError(name, min_size, (height, width), turned)
    _check_finite(name, images, largest)
    return jnp.asarray(images)


_NO_IMAGE = 16
"""Three rows of so many pixels of so many channels are no image, though any number of channels will
do: they are one whose axes stand in another order."""


def turned_hint(shape: tuple[int, ...], channels: int | None = None) -> str:
    """What to do with images [n, c, h, w], if they have that shape; else ""."""
    if len(shape) != 4 or shape[1] != (channels or 3) or shape[-1] in (1, 3, 4):
        return ""
    return "; this looks like [n, c, h, w]: use jnp.moveaxis(images, 1, -1)"


def _check_finite(name: str, images: ImageLike, largest: float) -> None:
    """Where the numbers are at hand; a traced image has none yet."""
    if images.dtype == np.uint8 or isinstance(images, jax.core.Tracer):
        return
    if isinstance(images, jax.Array) and not images.is_fully_addressable:
        return
    values = np.asarray(images)
    if not values.size:
        return
    with np.errstate(invalid="ignore"):  # NumPy says so of a NaN in bfloat16.
        least, most = float(values.min()), float(values.max())
    if least >= -largest and most <= largest:  # False of NaN.
        return
    finite = np.isfinite(values)
    if finite.all():
        raise InputError(
            f"{name}: images must be of at most {largest:g}, or the distance is not finite; "
            f"got {max(-least, most):g}: map them to the value range"
        )
    places = np.argwhere(~finite)
    first = ", ".join(map(str, places[0]))
    raise InputError(
        f"{name}: images must be finite; {len(places)} of {finite.size} values are NaN or "
        f"infinite, the first images[{first}]; mend what made them, or use jnp.nan_to_num"
    )
