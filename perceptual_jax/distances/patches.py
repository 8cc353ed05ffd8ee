"""Distances of local patches, on images in [-1, 1]: what a window the size of a patch sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_maps
from perceptual_jax.errors import choice, kernel_width, positive_integer
from perceptual_jax.ops.filters import sum_channels
from perceptual_jax.ops.safe import positive_part, safe_sqrt
from perceptual_jax.ops.value_range import SIGNED, mapper
from perceptual_jax.ops.windows import window_sums

__all__ = ["CENTERS", "patch_laplace", "patch_rbf", "patch_rbf_joint"]

CENTERS = (None, "mean", "channel_mean")
"""What is taken from each patch first: nothing, its mean, or its mean in each channel."""

_UNIT_NORM_FLOOR = 1e-3


def patch_rbf(
    *,
    patch_size: int = 3,
    sigma: float = 0.1,
    stride: int = 1,
    padding: bool = True,
    center: str | None = None,
    unit_norm: bool = False,
    name: str = "patch-rbf",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """Gaussian kernel of patches: mean_i 1 - exp(-S(i) / (2 B^2)), B = sigma p^2.

    S(i) is the sum of (x - y)^2 over the p x p window at i and all channels: a patch either
    matches or it does not, and how badly it misses no longer matters.

    Args:
      patch_size: p, in pixels.
      sigma: the bandwidth per pixel of a patch, 1e-15 to 1e15, on the [-1, 1] scale.
      stride: between patches, in pixels.
      padding: whether patches at the border reach p // 2 beyond it, where nothing differs.
      center: None; "mean" takes from each patch its mean, "channel_mean" its mean in each
        channel, so that brightness or colour does not count.
      unit_norm: scale each patch to norm 1, so that contrast does not count. The norm has a
        floor of 0.001: flat patches are alike.
      name: the canonical spec.
      value_range: (low, high) of float images, at least p x p pixels without padding.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 1]; its map has a value for each patch.

    Raises:
      InputError: for options out of range; at trace time for images smaller than a patch.

    References:
      D. Amir, Y. Weiss, "Understanding and Simplifying Perceptual Distances", CVPR 2021.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> black, white = jnp.zeros((1, 8, 8, 3)), jnp.ones((1, 8, 8, 3))
      >>> round(pj.make("patch-rbf", padding=False)({}, black, white).item(), 3)
      1.0
    """
    patches = _Patches(name, patch_size, stride, padding, center, unit_norm)
    bandwidth = kernel_width(f"{name}: sigma", sigma) * patches.size**2
    return _of_patches(
        name,
        lambda squared: -jnp.expm1(-squared / (2 * bandwidth**2)),
        patches,
        value_range,
        dtype,
    )


def patch_laplace(
    *,
    patch_size: int = 3,
    sigma: float = 0.1,
    stride: int = 1,
    padding: bool = True,
    center: str | None = None,
    unit_norm: bool = False,
    name: str = "patch-laplace",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """Laplacian kernel of patches: mean_i 1 - exp(-sqrt(S(i)) / B), B = sigma p^2.

    Its gradient does not vanish as patches come to match; it is 0 where they do.

    Args:
      patch_size: as for `patch_rbf`, and so are all others.
      sigma: the bandwidth per pixel of a patch, 1e-15 to 1e15, on the [-1, 1] scale.
      stride: between patches, in pixels.
      padding: whether patches at the border reach p // 2 beyond it, where nothing differs.
      center: None, "mean" or "channel_mean".
      unit_norm: scale each patch to norm 1.
      name: the canonical spec.
      value_range: (low, high) of float images, at least p x p pixels without padding.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 1]; its map has a value for each patch.

    Raises:
      InputError: as `patch_rbf`.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> same = jnp.zeros((1, 8, 8, 3))
      >>> pj.make("patch-laplace")({}, same, same).tolist()
      [0.0]
    """
    patches = _Patches(name, patch_size, stride, padding, center, unit_norm)
    bandwidth = kernel_width(f"{name}: sigma", sigma) * patches.size**2
    return _of_patches(
        name,
        lambda squared: -jnp.expm1(-safe_sqrt(squared) / bandwidth),
        patches,
        value_range,
        dtype,
    )


def patch_rbf_joint(
    *,
    patch_size: int = 11,
    sigma: float = 0.02,
    stride: int = 1,
    name: str = "patch-rbf-joint",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """Kernel of whole patches: mean_i 1 - exp(-S(i) / B), B = sigma p^2, valid windows only.

    Args:
      patch_size: p, in pixels.
      sigma: the bandwidth per pixel of a patch, squared differences on the [-1, 1] scale.
      stride: between patches, in pixels.
      name: the canonical spec.
      value_range: (low, high) of float images, at least p x p pixels.
      dtype: the dtype to compute in; by default that of the images.

    Returns:
      A distance in [0, 1]; its map has a value for each patch.

    Raises:
      InputError: as `patch_rbf`.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> black, white = jnp.zeros((1, 11, 11, 3)), jnp.ones((1, 11, 11, 3))
      >>> pj.make("patch-rbf-joint")({}, black, white).tolist()
      [1.0]
    """
    patches = _Patches(name, patch_size, stride, False, None, False)
    bandwidth = kernel_width(f"{name}: sigma", sigma) * patches.size**2
    return _of_patches(
        name,
        lambda squared: -jnp.expm1(-squared / bandwidth),
        patches,
        value_range,
        dtype,
    )


class _Patches:
    """How images are cut into patches, and how far apart two of them are at each place."""

    def __init__(
        self,
        name: str,
        patch_size: int,
        stride: int,
        padding: bool,
        center: str | None,
        unit_norm: bool,
    ):
        self.size = positive_integer(f"{name}: patch_size", patch_size)
        self.stride = positive_integer(f"{name}: stride", stride)
        self.margin = self.size // 2 if padding else 0
        self.center = choice(f"{name}: center", center, CENTERS)
        self.unit_norm = unit_norm

    @property
    def smallest_image(self) -> int:
        return max(1, self.size - 2 * self.margin)

    def squared(self, images: Array) -> Array:
        """The squared norm of every patch, centred: [n, h', w', 1]."""
        channels = images.shape[-1]
        total = self._sums(sum_channels(jnp.square(images)))
        if self.center == "mean":
            mean = self._sums(sum_channels(images))
            total = total - jnp.square(mean) / (self.size**2 * channels)
        elif self.center == "channel_mean":
            means = self._sums(images)
            total = total - sum_channels(jnp.square(means)) / self.size**2
        # Where a patch is flat, rounding may leave a little less than nothing.
        return positive_part(total) if self.center else total

    def _sums(self, images: Array) -> Array:
        margin = (self.margin, self.margin)
        padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)))
        return window_sums(padded, self.size, self.stride)


def _of_patches(
    name: str,
    penalty: Callable[[Array], Array],
    patches: _Patches,
    value_range: ValueRange,
    dtype: Any,
) -> Distance:
    smallest = patches.smallest_image
    prepare = mapper(name, value_range, SIGNED, dtype=dtype, min_size=(smallest, smallest))

    def embed(params: Params, images: ImageLike) -> Embedding:
        del params
        return prepare(images)

    def maps(params: Params, ex: Array, ey: Array) -> Terms:
        del params
        squared = patches.squared(ex - ey)
        if patches.unit_norm:
            # |u/|u| - v/|v||^2 from the difference: exactly 0 where the patches agree.
            floor = _UNIT_NORM_FLOOR**2
            norm_x = jnp.sqrt(patches.squared(ex) + floor)
            norm_y = jnp.sqrt(patches.squared(ey) + floor)
            squared = positive_part(squared - jnp.square(norm_x - norm_y)) / (norm_x * norm_y)
        return {"patches": penalty(squared)[..., 0]}

    return distance_from_maps(name, embed, maps)
