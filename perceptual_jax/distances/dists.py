"""Deep Image Structure and Texture Similarity (DISTS)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Embedding, ImageLike, Key, Params, Terms, ValueRange
from perceptual_jax.backbones import BACKBONES, PIXELS
from perceptual_jax.backbones.network import Conv, LayerParams, MaxPool, ReceptiveField
from perceptual_jax.distance import Distance, distance_from_terms, missing_params
from perceptual_jax.distances.features import imagenet_normalised, pretrained
from perceptual_jax.ops.filters import filter_separable
from perceptual_jax.ops.value_range import SIGNED, as_precision, at_least_float32, mapper

__all__ = ["LAYERS", "dists"]

LAYERS = (PIXELS, "relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
"""What is compared: the image itself, and the last ReLU of every block of VGG-16."""

_C1 = _C2 = 1e-6


class L2Pool(NamedTuple):
    """sqrt(blur(x^2)), every other place: pooling that does not alias."""

    name: str

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """None."""
        return ()

    def apply(self, params: LayerParams, x: Array, precision: jax.lax.Precision) -> Array:
        """[n, h, w, c] -> [n, ceil(h / 2), ceil(w / 2), c]."""
        squares = jnp.square(at_least_float32(x))  # They would leave the range of float16.
        padded = jnp.pad(squares, ((0, 0), (1, 1), (1, 1), (0, 0)))
        blurred = filter_separable(padded, np.array([0.25, 0.5, 0.25]), stride=2)
        return jnp.sqrt(blurred + 1e-12).astype(x.dtype)

    def field(self, inputs: ReceptiveField) -> ReceptiveField:
        """The receptive field, given that of the layer before."""
        return inputs.after(3, 2, 1)

    def smallest_input(self, side: int) -> int:
        """The least side that gives an output of this side."""
        return 2 * side - 1


_NETWORK = BACKBONES["vgg16"]._replace(
    layers=tuple(
        L2Pool(layer.name) if isinstance(layer, MaxPool) else layer
        for layer in BACKBONES["vgg16"].layers
    )
)


def dists(
    *,
    name: str = "dists",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """DISTS: 1 - sum_lc alpha_lc texture_lc + beta_lc structure_lc.

    Over the channels c of layers l of a VGG-16 that pools without aliasing,

        texture   = (2 mx my + C) / (mx^2 + my^2 + C)
        structure = (2 sxy + C) / (sx^2 + sy^2 + C)

    with means m, variances s^2 and covariance sxy over the whole map, C = 1e-6, and learned
    weights alpha, beta of sum 1. Two samples of one texture are close. Equal to the official
    implementation, to rounding; images are not resized (the authors' script brings the shorter
    side to 256 px first: `pj.images.resize`).

    Args:
      name: the canonical spec.
      value_range: (low, high) of float images.
      dtype: the dtype of the network; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance in [0, 1] or a little above; 0 for equal images; with a term for each layer.
      Params are keyed by "vgg16" and "dists".

    Raises:
      InputError: at trace time for images that are not RGB.

    References:
      K. Ding, K. Ma, S. Wang, E. Simoncelli, "Image Quality Assessment: Unifying Structure and
      Texture Similarity", TPAMI 2020, https://arxiv.org/abs/2004.07728

    Example:
      With VGG-16's weights in the store:

      ```python
      dists = pj.make("dists")
      dists(dists.init(jax.random.key(0)), x, y)  # [n]
      ```
    """
    precision = as_precision(precision)
    prepare = mapper(name, value_range, SIGNED, dtype=dtype, channels=3)

    def init(key: Key) -> Params:
        return {**pretrained("vgg16")(key), **pretrained("dists")(key)}

    def embed(params: Params, images: ImageLike) -> Embedding:
        if "vgg16" not in params:
            raise missing_params(name, "vgg16", params)
        images = prepare(images)
        normalised = imagenet_normalised(images)
        found = _NETWORK.features(params["vgg16"], normalised, LAYERS[1:], precision=precision)
        found[PIXELS] = (images + 1) / 2
        return {layer: _moments(found[layer]) for layer in LAYERS}

    def terms(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        if "dists" not in params:
            raise missing_params(name, "dists", params)
        dtype = ex[PIXELS]["mean"].dtype
        weights = jax.tree.map(lambda leaf: leaf.astype(dtype), params["dists"])
        total = sum(weights[layer][leaf].sum() for layer in LAYERS for leaf in ("alpha", "beta"))

        def term(layer: str) -> Array:
            x, y = ex[layer], ey[layer]
            # 1 - each similarity, from differences: exactly 0 where the maps agree.
            apart = jnp.square(x["mean"] - y["mean"])
            texture = apart / (jnp.square(x["mean"]) + jnp.square(y["mean"]) + _C1)
            scatter = jnp.square(x["centred"] - y["centred"]).mean(axis=(1, 2))
            structure = scatter / (x["variance"] + y["variance"] + _C2)
            alpha, beta = (weights[layer][leaf][None] / total for leaf in ("alpha", "beta"))
            return (alpha * texture + beta * structure).sum(axis=-1)

        return {layer: term(layer) for layer in LAYERS}

    return distance_from_terms(name, embed, terms, init=init)


def _moments(features: Array) -> dict[str, Array]:
    """Means and variances [n, c] of maps, and the maps without their means."""
    features = at_least_float32(features)
    mean = features.mean(axis=(1, 2))
    centred = features - mean[:, None, None]
    return {"mean": mean, "variance": jnp.square(centred).mean(axis=(1, 2)), "centred": centred}
