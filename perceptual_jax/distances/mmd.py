"""Maximum mean discrepancy of patches, exactly, on images in [-1, 1].

The patches of an image, or of a window of it, are a sample of a distribution; the distance is that
of the two distributions in the space of a kernel k:

    MMD^2 = mean k(u, u') + mean k(v, v') - 2 mean k(u, v)

over all pairs of patches u of x and v of y (the V-statistic: a patch is paired with itself too).
Where in its window a patch is does not count.

References:
  A. Gretton et al., "A Kernel Two-Sample Test", JMLR 2012,
  https://jmlr.org/papers/v13/gretton12a.html
  D. Amir, Y. Weiss, "Understanding and Simplifying Perceptual Distances", CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.distance import Distance, distance_from_terms, size_of
from perceptual_jax.errors import InputError, choice, kernel_width, positive_integer
from perceptual_jax.ops.filters import pad_reflect
from perceptual_jax.ops.kernel_means import KERNELS, kernel_mean
from perceptual_jax.ops.value_range import SIGNED, at_least_float32, mapper
from perceptual_jax.ops.windows import extract_windows, mean_patch

__all__ = ["MULTISCALE_SIGMAS", "mmd", "mmd_linear", "mmd_multiscale"]

MULTISCALE_SIGMAS = (0.1, 0.05, 0.025, 0.01)
"""Bandwidths per pixel of a patch of the multiscale kernel."""


def mmd(
    *,
    patch_size: int = 3,
    sigma: float = 0.06,
    window: int | None = 32,
    stride: int = 16,
    kernel: str = "rbf",
    name: str = "mmd",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """Exact MMD^2 of the p x p patches of every window; the mean over windows.

    The image is mirrored at its border by p // 2, so that a window of w x w pixels has w^2
    patches. Time is quadratic in the patches of a window, memory linear.

    Args:
      patch_size: p, in pixels; odd.
      sigma: the bandwidth per pixel of a patch, B = sigma p^2, on the [-1, 1] scale.
      window: the side of a window, in pixels; None for the whole image.
      stride: between windows, in pixels.
      kernel: "rbf", exp(-|u - v|^2 / (2 B^2)); "laplace", exp(-|u - v| / B); "linear", <u, v>;
        "multiscale", the sum of "rbf" over `MULTISCALE_SIGMAS`; "arccos", the arc-cosine kernel,
        with which this is the distance in an infinitely wide random layer of convolution, ReLU
        and averaging.
      name: the canonical spec.
      value_range: (low, high) of float images, at least a window large.
      dtype: the dtype of the images; patches are compared in float32 or wider.

    Returns:
      A distance of at least 0 (up to rounding).

    Raises:
      InputError: for options out of range; at trace time for images smaller than a window or
        than the mirrored border.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> x = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
      >>> mirrored = x[:, :, ::-1]  # other patches, of the same colours
      >>> bool(pj.make("mmd(patch_size=1)")({}, x, mirrored)[0] < 1e-6)
      True
    """
    size = positive_integer(f"{name}: patch_size", patch_size)
    if size % 2 == 0:
        raise InputError(f"{name}: patch_size must be odd; got {patch_size}")
    sigmas: tuple[float, ...] = (kernel_width(f"{name}: sigma", sigma),)
    choice(f"{name}: kernel", kernel, (*KERNELS, "multiscale"))
    if kernel == "multiscale":
        kernel, sigmas = "rbf", MULTISCALE_SIGMAS
    if window is not None:
        window = positive_integer(f"{name}: window", window)
    stride = positive_integer(f"{name}: stride", stride)
    margin = size // 2
    smallest = max(window or 1, margin + 1)
    prepare = mapper(name, value_range, SIGNED, dtype=dtype, min_size=(smallest, smallest))

    def windows(images: Array) -> Array:
        padded = pad_reflect(images, margin)
        if window is None:
            return padded[:, None]
        return extract_windows(padded, window + 2 * margin, stride)

    return _of_windows(name, prepare, windows, size, 1, kernel, sigmas)


def mmd_multiscale(
    *,
    patch_size: int = 7,
    stride: int = 1,
    sigmas: Sequence[float] = MULTISCALE_SIGMAS,
    name: str = "mmd-multiscale",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """Exact MMD^2 of all patches of the image, with the sum of Gaussian kernels of many widths.

    Args:
      patch_size: p, in pixels; only whole patches.
      stride: between patches, in pixels.
      sigmas: bandwidths per pixel of a patch, B = sigma p^2, on the [-1, 1] scale.
      name: the canonical spec.
      value_range: (low, high) of float images, at least p x p pixels.
      dtype: the dtype of the images; patches are compared in float32 or wider.

    Returns:
      A distance of at least 0 (up to rounding).

    Raises:
      InputError: for options out of range; at trace time for images smaller than a patch.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> x = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
      >>> bool(pj.make("mmd-multiscale")({}, x, x * 0.5)[0] > 0.1)
      True
    """
    if isinstance(sigmas, str) or not isinstance(sigmas, Sequence) or not sigmas:
        raise InputError(f"{name}: sigmas must be positive numbers; got {sigmas!r}")
    bandwidths = tuple(kernel_width(f"{name}: sigmas", sigma) for sigma in sigmas)
    return _of_images(name, patch_size, stride, "rbf", bandwidths, value_range, dtype)


def mmd_linear(
    *,
    patch_size: int = 7,
    stride: int = 1,
    name: str = "mmd-linear",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
) -> Distance:
    """The squared distance of the images' mean patches: |mean u - mean v|^2.

    Args:
      patch_size: p, in pixels; only whole patches.
      stride: between patches, in pixels.
      name: the canonical spec.
      value_range: (low, high) of float images, at least p x p pixels.
      dtype: the dtype of the images; patches are compared in float32 or wider.

    Returns:
      A distance of at least 0.

    Raises:
      InputError: for options out of range; at trace time for images smaller than a patch.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> black, grey = jnp.zeros((1, 8, 8, 3)), jnp.full((1, 8, 8, 3), 0.5)
      >>> pj.make("mmd-linear")({}, black, grey).tolist()  # 7 * 7 * 3 values, each 1 apart
      [147.0]
    """
    return _of_images(name, patch_size, stride, "linear", (), value_range, dtype)


def _of_images(
    name: str,
    patch_size: int,
    stride: int,
    kernel: str,
    sigmas: tuple[float, ...],
    value_range: ValueRange,
    dtype: Any,
) -> Distance:
    """Of all whole patches of the image."""
    size = positive_integer(f"{name}: patch_size", patch_size)
    stride = positive_integer(f"{name}: stride", stride)
    prepare = mapper(name, value_range, SIGNED, dtype=dtype, min_size=(size, size))
    return _of_windows(name, prepare, lambda images: images[:, None], size, stride, kernel, sigmas)


def _of_windows(
    name: str,
    prepare: Callable[[ImageLike], Array],
    windows: Callable[[Array], Array],
    size: int,
    stride: int,
    kernel: str,
    sigmas: tuple[float, ...],
) -> Distance:
    """MMD^2 of the patches of windows [n, k, h, w, c] of the images; the mean over k."""
    if kernel == "linear":
        return _of_means(name, prepare, windows, size, stride)
    k = KERNELS[kernel](tuple(sigma * size**2 for sigma in sigmas))

    def embed(params: Params, images: ImageLike) -> Embedding:
        del params
        images = at_least_float32(prepare(images))
        cut = windows(images)
        alone = _each(lambda one: kernel_mean(one, one, k, size, stride), cut)
        return {"windows": cut, "self": alone, "size": size_of(images)}

    def terms(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params
        across = _each(
            lambda one, other: kernel_mean(one, other, k, size, stride),
            ex["windows"],
            ey["windows"],
        )
        # In two parts: the coarse ones first, which cancel without rounding.
        parts = ex["self"] + ey["self"] - 2 * across
        return {"patches": parts.sum(axis=-1).mean(axis=1)}

    return distance_from_terms(name, embed, terms)


def _of_means(
    name: str,
    prepare: Callable[[ImageLike], Array],
    windows: Callable[[Array], Array],
    size: int,
    stride: int,
) -> Distance:
    """With <u, v> for a kernel the mean patch is all that counts."""

    def embed(params: Params, images: ImageLike) -> Embedding:
        del params
        images = at_least_float32(prepare(images))
        means = jax.vmap(lambda cut: mean_patch(cut, size, stride))(windows(images))
        return {"means": means, "size": size_of(images)}

    def terms(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params
        return {"patches": jnp.square(ex["means"] - ey["means"]).sum(axis=-1).mean(axis=1)}

    return distance_from_terms(name, embed, terms)


def _each(function: Callable[..., Array], *windows: Array) -> Array:
    """Applies a function of windows [h, w, c] to all of [n, k, h, w, c].

    An image's windows one after the other; images side by side, so that they can be spread over
    devices.
    """
    return jax.vmap(lambda *each: jax.lax.map(lambda one: function(*one), each))(*windows)
