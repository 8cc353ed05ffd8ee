"""The contextual loss of trained features: is everything of y somewhere in x?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perceptual_jax._typing import Array, Embedding, ImageLike, Params, Terms, ValueRange
from perceptual_jax.backbones import BACKBONES
from perceptual_jax.distance import Distance, distance_from_terms, missing_params
from perceptual_jax.distances.features import imagenet_normalised, layer_weights, pretrained
from perceptual_jax.errors import InputError, choice, finite_number, positive_number
from perceptual_jax.ops.contextual import POINT_DISTANCES, contextual_loss, shrunk
from perceptual_jax.ops.value_range import SIGNED, as_precision, mapper

__all__ = ["contextual"]


def contextual(
    *,
    h: float = 0.5,
    layers: Sequence[str] | Mapping[str, float] = ("conv3_3", "conv4_3"),
    backbone: str = "vgg16",
    distance: str = "cosine",
    spatial_weight: float = 0.0,
    name: str = "contextual",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """Contextual loss: sum_l w_l -log(CX(f_l(x), f_l(y)) + 1e-5) / number of layers.

    CX is the mean over the feature vectors of y of how clearly one of x is its nearest. Images
    need not be aligned: x may have everything of y at other places. x and y do not play the
    same part, and equal images are near 0, not at it.

    Args:
      h: the bandwidth, 1e-6 to 1e15; smaller asks for one clear nearest vector.
      layers: as for the feature distances. Features of 128^2 places or more are shrunk by 2x2
        means.
      backbone: a trained network, a key of `BACKBONES`.
      distance: of feature vectors: "cosine", both centred by the mean of y; "l1"; "l2".
      spatial_weight: in [0, 1): how much nearness in the image counts beside nearness of
        features, the bilateral form.
      name: the canonical spec.
      value_range: (low, high) of float images.
      dtype: the dtype of the network; by default that of the images.
      precision: of the network's products, "highest", "high" or "default".

    Returns:
      A distance, about 0 for equal images, with a term for each layer. Images may differ in
      size. Memory is linear in the places of a layer, time quadratic.

    Raises:
      InputError: for options out of range; at trace time for images too small.

    References:
      R. Mechrez, I. Talmi, L. Zelnik-Manor, "The Contextual Loss for Image Transformation with
      Non-Aligned Data", ECCV 2018, https://arxiv.org/abs/1803.02077

    Example:
      With a network's weights in the store:

      ```python
      loss = pj.make("contextual", layers=("conv3_3",))
      loss(loss.init(jax.random.key(0)), generated, reference)
      ```
    """
    h = positive_number(f"{name}: h", h, 1e-6, 1e15)
    choice(f"{name}: backbone", backbone, BACKBONES)
    choice(f"{name}: distance", distance, POINT_DISTANCES)
    spatial_weight = finite_number(f"{name}: spatial_weight", spatial_weight)
    if not 0 <= spatial_weight < 1:
        raise InputError(f"{name}: spatial_weight must be in [0, 1); got {spatial_weight}")
    network = BACKBONES[backbone]
    weight_of = layer_weights(network, layers)
    precision = as_precision(precision)
    smallest = network.smallest_input(weight_of)
    prepare = mapper(
        name, value_range, SIGNED, dtype=dtype, channels=3, min_size=(smallest, smallest)
    )

    def embed(params: Params, images: ImageLike) -> Embedding:
        if backbone not in params:
            raise missing_params(name, backbone, params)
        images = imagenet_normalised(prepare(images))
        found = network.features(params[backbone], images, weight_of, precision=precision)
        return {layer: shrunk(found[layer]) for layer in weight_of}

    def terms(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params

        def loss(layer: str) -> Array:
            return contextual_loss(
                ex[layer], ey[layer], h=h, distance=distance, spatial_weight=spatial_weight
            )

        return {layer: w / len(weight_of) * loss(layer) for layer, w in weight_of.items()}

    return distance_from_terms(name, embed, terms, init=pretrained(backbone), any_sizes=True)
