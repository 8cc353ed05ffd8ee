"""Learned Perceptual Image Patch Similarity (LPIPS), and its shift-tolerant kin."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from perceptual_jax._typing import Array, Embedding, ImageLike, Key, Params, Terms, ValueRange
from perceptual_jax.backbones import BACKBONES
from perceptual_jax.distance import Distance, distance_from_maps, missing_params
from perceptual_jax.distances.features import imagenet_normalised, pretrained, unit_normalised
from perceptual_jax.errors import choice
from perceptual_jax.ops.value_range import SIGNED, as_precision, mapper

__all__ = ["LAYERS", "lpips", "st_lpips"]

LAYERS = {
    "alex": ("alexnet", ("relu1", "relu2", "relu3", "relu4", "relu5")),
    "vgg": ("vgg16", ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")),
    "squeeze": (
        "squeezenet1_1",
        ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"),
    ),
}
"""The networks of LPIPS: `{net: (backbone, layers)}`."""


def lpips(
    *,
    net: str = "alex",
    version: str = "0.1",
    heads: bool = True,
    name: str = "lpips-alex",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """LPIPS: sum_l mean_hw  w_l . (u_l(x) - u_l(y))^2, u the unit-normalised features.

    Equal to the official implementation, to rounding.

    Args:
      net: "alex", "vgg" or "squeeze".
      version: "0.1", or "0.0", which feeds [-1, 1] without ImageNet's statistics and has
        heads of its own.
      heads: weigh channels by the learned heads; False is the unweighted baseline, w_l = 1.
      name: the canonical spec.
      value_range: (low, high) of float images.
      dtype: the dtype of the network; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0, with a term and a map for each layer; the sum of the resized
      maps is the official spatial LPIPS. Params are keyed by the backbone and by
      "lpips-alex-v0.1" or the like.

    Raises:
      InputError: for unknown options; at trace time for images too small for the network.

    References:
      R. Zhang, P. Isola, A. Efros, E. Shechtman, O. Wang, "The Unreasonable Effectiveness of
      Deep Features as a Perceptual Metric", CVPR 2018, https://arxiv.org/abs/1801.03924

    Example:
      The layers' terms add up to the distance:

      ```python
      lpips = pj.make("lpips-vgg")
      params = lpips.init(jax.random.key(0))
      lpips.terms(params, x, y)  # {"relu1_2": [n], ..., "relu5_3": [n]}
      lpips.map(params, x, y)    # [n, h, w]
      ```
    """
    backbone, layers = LAYERS[choice(f"{name}: net", net, LAYERS)]
    choice(f"{name}: version", version, ("0.1", "0.0"))
    return _on_network(
        backbone,
        layers,
        head_set=f"lpips-{net}-v{version}" if heads else None,
        normalise=version == "0.1",
        name=name,
        value_range=value_range,
        dtype=dtype,
        precision=precision,
    )


def st_lpips(
    *,
    net: str = "alex",
    name: str = "st-lpips-alex",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """Shift-tolerant LPIPS: LPIPS on networks that pool without aliasing, trained for it.

    A shift of a pixel, which nobody sees, hardly moves it. Equal to the official
    implementation, to rounding.

    Args:
      net: "alex" or "vgg".
      name: the canonical spec.
      value_range: (low, high) of float images.
      dtype: the dtype of the network; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance of at least 0, with a term and a map for each layer. Params are keyed by
      "alexnet-shift-tolerant" and "st-lpips-alex", or by those of VGG-16.

    Raises:
      InputError: for unknown options; at trace time for images too small for the network.

    References:
      A. Ghildyal, F. Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022,
      https://arxiv.org/abs/2207.13686

    Example:
      With the weights in the store (`perceptual-jax weights get alexnet-shift-tolerant`):

      ```python
      tolerant = pj.make("st-lpips-alex")
      tolerant(tolerant.init(jax.random.key(0)), x, y)  # [n]
      ```
    """
    backbone, layers = LAYERS[choice(f"{name}: net", net, ("alex", "vgg"))]
    return _on_network(
        f"{backbone}-shift-tolerant",
        layers,
        head_set=f"st-lpips-{net}",
        normalise=True,
        name=name,
        value_range=value_range,
        dtype=dtype,
        precision=precision,
    )


def _on_network(
    backbone: str,
    layers: tuple[str, ...],
    *,
    head_set: str | None,
    normalise: bool,
    name: str,
    value_range: ValueRange,
    dtype: Any,
    precision: Any,
) -> Distance:
    """sum_l mean_hw  w_l . (u_l(x) - u_l(y))^2; w = 1 without heads."""
    network = BACKBONES[backbone]
    weight_sets = (backbone, head_set) if head_set else (backbone,)
    precision = as_precision(precision)
    smallest = network.smallest_input(layers)
    prepare = mapper(
        name, value_range, SIGNED, dtype=dtype, channels=3, min_size=(smallest, smallest)
    )

    def init(key: Key) -> Params:
        return {k: v for weight_set in weight_sets for k, v in pretrained(weight_set)(key).items()}

    def embed(params: Params, images: ImageLike) -> Embedding:
        if backbone not in params:
            raise missing_params(name, backbone, params)
        images = prepare(images)
        if normalise:
            images = imagenet_normalised(images)
        found = network.features(params[backbone], images, layers, precision=precision)
        return {layer: unit_normalised(found[layer]) for layer in layers}

    def maps(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        if head_set and head_set not in params:
            raise missing_params(name, head_set, params)

        def weigh(layer: str, squared: Array) -> Array:
            if head_set is None:
                return squared.sum(axis=-1)
            kernel = params[head_set][layer]["kernel"].astype(squared.dtype)
            return (squared * kernel.reshape(1, 1, 1, -1)).sum(axis=-1)

        return {layer: weigh(layer, jnp.square(ex[layer] - ey[layer])) for layer in layers}

    return distance_from_maps(name, embed, maps, init=init)
