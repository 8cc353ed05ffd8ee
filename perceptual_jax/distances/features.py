"""Distances of deep features: what a layer of a network answers to two images."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from perceptual_jax import weights as weight_store
from perceptual_jax._typing import Array, Embedding, ImageLike, Key, Params, Terms, ValueRange
from perceptual_jax.backbones import BACKBONES, Backbone
from perceptual_jax.distance import (
    Distance,
    distance_from_maps,
    distance_from_terms,
    missing_params,
)
from perceptual_jax.errors import choice, finite_number
from perceptual_jax.ops.contextual import contextual_loss, shrunk
from perceptual_jax.ops.safe import safe_abs, safe_norm
from perceptual_jax.ops.sorting import sliced_difference, sort_last
from perceptual_jax.ops.value_range import (
    LARGEST,
    SIGNED,
    as_precision,
    at_least_float32,
    mapper,
    rounded,
)

__all__ = [
    "DEFAULT_LAYERS",
    "GRAM_NORMALIZATIONS",
    "METRICS",
    "features",
    "imagenet_normalised",
    "layer_weights",
    "pretrained",
    "unit_normalised",
]

# The last convolution of every block.
_VGG_LAYERS = {
    "vgg11": ("conv1_1", "conv2_1", "conv3_2", "conv4_2", "conv5_2"),
    "vgg13": ("conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2"),
    "vgg16": ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"),
    "vgg19": ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"),
}
_SQUEEZENET_LAYERS = ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")

DEFAULT_LAYERS = {
    **{name: ("pixels", *layers) for name, layers in _VGG_LAYERS.items()},
    **{f"{name}_bn": ("pixels", *layers) for name, layers in _VGG_LAYERS.items()},
    "alexnet": ("pixels", "conv1", "conv2", "conv3", "conv4", "conv5"),
    "alexnet-shift-tolerant": ("pixels", "conv1", "conv2", "conv3", "conv4", "conv5"),
    "vgg16-shift-tolerant": ("pixels", *_VGG_LAYERS["vgg16"]),
    "squeezenet1_0": ("pixels", *_SQUEEZENET_LAYERS),
    "squeezenet1_1": ("pixels", *_SQUEEZENET_LAYERS),
}
"""`{backbone: the layers compared where none are named}`."""

# The ImageNet mean and deviation of [0, 1] images, (.485, .456, .406) and (.229, .224, .225),
# on the [-1, 1] scale. LPIPS uses the same; written once, so that XLA can share the network.
_IMAGENET_SHIFT = (-0.030, -0.088, -0.188)
_IMAGENET_SCALE = (0.458, 0.448, 0.450)


def imagenet_normalised(images: Array) -> Array:
    """From [-1, 1] to what torchvision's networks were trained on: zero mean, unit deviation."""
    shift = jnp.asarray(_IMAGENET_SHIFT, images.dtype).reshape(1, 1, 1, 3)
    scale = jnp.asarray(_IMAGENET_SCALE, images.dtype).reshape(1, 1, 1, 3)
    return rounded((images - shift) / scale)


def unit_normalised(features: Array) -> Array:
    """Scales each position's channel vector to norm 1; zero vectors stay zero."""
    wide = at_least_float32(features)  # Squares of features would leave the range of float16.
    return _divided_by_norm(wide).astype(features.dtype)


_TINY = 1e-10
"""Added to norms, as the published code does."""


@jax.custom_jvp
def _divided_by_norm(vectors: Array) -> Array:
    return vectors / (safe_norm(vectors) + _TINY)


@_divided_by_norm.defjvp
def _divided_by_norm_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """A tangent without its part along the vector, divided by the norm.

    That part is copied to the channels as a product with ones, whose transpose in the gradient is
    one too: a gradient of LPIPS at 256 px takes 440 ms on two CPU cores so, and 500 with the sum
    over channels that is the transpose of a broadcast.
    """
    (vectors,), (tangent,) = primals, tangents
    norm = safe_norm(vectors)
    unit = vectors / (norm + _TINY)
    along = (unit * tangent).sum(axis=-1, keepdims=True)
    along = along * ((norm + _TINY) / jnp.where(norm > 0, norm, 1))
    ones = jnp.ones((1, vectors.shape[-1]), vectors.dtype)
    copied = jnp.matmul(along, ones, precision=jax.lax.Precision.HIGHEST)
    return unit, (tangent - unit * copied) / (norm + _TINY)


def pretrained(weight_set: str) -> Callable[[Key], Params]:
    """An `init` that reads a weight set from the local store; the key is not used."""

    def init(key: Key) -> Params:
        del key
        return {weight_set: jax.tree.map(jnp.asarray, weight_store.read(weight_set))}

    return init


# --- Metrics on one layer ------------------------------------------------------------------

_PROJECTIONS = 256


class _Metric(NamedTuple):
    """How one layer is embedded and compared.

    Attributes:
      embed: (features [n, h, w, c], draws or None) -> embedding.
      compare: two embeddings -> a map [n, h, w], or [n] where the metric is not local.
      local: whether compare gives a map.
      draw: (key, c) -> the draws of a layer with c channels, where the metric needs any.
      any_sizes: whether the two images may differ in size.
      largest: the largest pixel; of features' fourth powers sooner than of their squares, sums are
        not finite.
    """

    embed: Callable[[Array, Any], Embedding]
    compare: Callable[[Any, Any], Array]
    local: bool = False
    draw: Callable[[Key, int], Array] | None = None
    any_sizes: bool = False
    largest: float = LARGEST


_OF_GRAMS = 1e4


def _directions(key: Key, channels: int) -> Array:
    directions = jax.random.normal(key, (channels, _PROJECTIONS), jnp.result_type(float))
    return directions / safe_norm(directions, axis=0)


def _sorted_projections(features: Array, directions: Array) -> Array:
    """Channel vectors seen along every direction, sorted: [n, directions, places]."""
    features = at_least_float32(features)
    points = features.reshape(features.shape[0], -1, features.shape[-1])
    projected = jnp.einsum(
        "npc,ck->nkp",
        points,
        directions.astype(points.dtype),
        precision=jax.lax.Precision.HIGHEST,
    )
    return sort_last(projected)


def _gram(scale: Callable[[int, int], float]) -> Callable[[Array], Array]:
    def embed(features: Array) -> Array:
        n, height, width, channels = features.shape
        flat = at_least_float32(features).reshape(n, height * width, channels)
        product = jnp.einsum("npc,npd->ncd", flat, flat, precision=jax.lax.Precision.HIGHEST)
        return product * scale(channels, height * width)

    return embed


def _gram_trace(scale: Callable[[int, int], float]) -> Callable[[Array], Array]:
    def embed(features: Array) -> Array:
        _, height, width, channels = features.shape
        return jnp.square(at_least_float32(features)).sum(axis=(1, 2)) * scale(
            channels, height * width
        )

    return embed


GRAM_NORMALIZATIONS: Mapping[str, Callable[[int, int], float]] = {
    "hw": lambda channels, places: 1 / places,
    "chw": lambda channels, places: 1 / (channels * places),
    "gatys": lambda channels, places: 1 / (2 * places),
    "none": lambda channels, places: 1.0,
}
"""What F^T F is multiplied by, from the number of channels C and of places HW. With "gatys" the
mean squared difference is the style loss of Gatys et al. 2016, sum (G - A)^2 / (4 C^2 (HW)^2)."""


def _metrics(gram_scale: Callable[[int, int], float]) -> dict[str, _Metric]:
    def same(features: Array, _: Any) -> Array:
        return features

    def mean_square(ex: Array, ey: Array) -> Array:
        return jnp.square(ex - ey).mean(axis=tuple(range(1, max(ex.ndim, ey.ndim))))

    def l1(ex: Array, ey: Array) -> Array:
        return safe_abs(ex - ey).mean(axis=-1)

    gram, gram_trace = _gram(gram_scale), _gram_trace(gram_scale)
    return {
        "l1": _Metric(same, l1, local=True),
        "l2": _Metric(same, lambda ex, ey: jnp.square(ex - ey).mean(axis=-1), local=True),
        # |u - v|^2 / 2 = 1 - cos for unit vectors, and exactly 0 for equal ones, zero or not.
        "cosine": _Metric(
            lambda features, _: unit_normalised(features),
            lambda ex, ey: jnp.square(ex - ey).sum(axis=-1) / 2,
            local=True,
        ),
        "gram": _Metric(lambda features, _: gram(features), mean_square, largest=_OF_GRAMS),
        "gram-trace": _Metric(
            lambda features, _: gram_trace(features), mean_square, largest=_OF_GRAMS
        ),
        "l1+gram": _Metric(
            lambda features, _: {"l1": features, "gram": gram(features)},
            lambda ex, ey: (
                l1(ex["l1"], ey["l1"]).mean(axis=(1, 2)) + 0.5 * mean_square(ex["gram"], ey["gram"])
            ),
            largest=_OF_GRAMS,
        ),
        "contextual": _Metric(
            lambda features, _: shrunk(at_least_float32(features)),
            lambda ex, ey: contextual_loss(ex, ey, h=0.5),
            any_sizes=True,
        ),
        "swd": _Metric(
            _sorted_projections,
            lambda ex, ey: sliced_difference(ex, ey, 1.0),
            draw=_directions,
            any_sizes=True,
        ),
    }


METRICS = tuple(_metrics(GRAM_NORMALIZATIONS["hw"]))
"""The names of the metrics on a layer."""


# --- The distance --------------------------------------------------------------------------

_WEIGHTS = ("imagenet", "random", "random-zero-mean")
_PREPROCESSING = {"imagenet": imagenet_normalised, "signed": lambda images: images}


def features(
    *,
    backbone: str = "vgg16",
    layers: Sequence[str] | Mapping[str, float] | None = None,
    metric: str = "l1",
    weights: str = "imagenet",
    preprocess: str = "imagenet",
    gram_normalization: str = "hw",
    name: str = "vgg16",
    value_range: ValueRange = (0.0, 1.0),
    dtype: Any = None,
    precision: Any = "highest",
) -> Distance:
    """Distance of a network's features: sum_l w_l m(f_l(x), f_l(y)) / number of layers.

    Args:
      backbone: a key of `BACKBONES`: "vgg16", "vgg19_bn", "alexnet", "squeezenet1_1".
      layers: names of layers (weight 1 each), or `{name: weight}`: "conv3_3" is before the ReLU,
        "relu3_3" after it, "pool3" after pooling, "pixels" the network's input. By default the
        input and the last convolution of every block of VGG, all five of AlexNet, and what
        LPIPS takes of SqueezeNet. Nothing deeper than the deepest layer is computed.
      metric: "l1" and "l2", means over places and channels; "cosine", 1 - cos of the channel
        vectors, mean over places; "gram", mean squared difference of the Gram matrices
        G = F^T F / (HW); "gram-trace", that of their diagonals; "l1+gram", l1 + gram / 2;
        "contextual", the contextual loss; "swd", the sliced Wasserstein distance of the channel
        vectors along 256 random directions, which stand in params under "{name}/draws".
      weights: "imagenet", trained; "random", Kaiming normal; "random-zero-mean", and every
        filter of the first layer without its mean.
      preprocess: "imagenet" feeds images normalised as in training; "signed" feeds [-1, 1].
      gram_normalization: what F^T F is divided by: "hw" places, "chw" channels and places, "gatys"
        twice the places, "none".
      name: the canonical spec, under which random weights stand in params; the draws themselves
        depend on the key and the backbone alone.
      value_range: (low, high) of float images.
      dtype: the dtype to compute in; by default that of the images.
      precision: of the products, "highest", "high" or "default".

    Returns:
      A distance, at least 0 where the weights are, with a term for each layer, and maps for
      the local metrics.
      Params are `{backbone: {layer: {"kernel", "bias"}}}`, keyed by `name` if random.

    Raises:
      InputError: for unknown names; at trace time for images too small for the deepest layer.

    References:
      J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
      Super-Resolution", ECCV 2016, https://arxiv.org/abs/1603.08155
      L. Gatys, A. Ecker, M. Bethge, "Image Style Transfer Using Convolutional Neural
      Networks", CVPR 2016.

    Example:
      >>> import jax, perceptual_jax as pj
      >>> vgg = pj.make("vgg16-random", layers=("relu1_2", "relu2_2"), metric="l2")
      >>> params = vgg.init(jax.random.key(0))
      >>> x, y = jax.random.uniform(jax.random.key(1), (2, 1, 32, 32, 3))
      >>> sorted(vgg.terms(params, x, y))
      ['relu1_2', 'relu2_2']
    """
    choice(f"{name}: backbone", backbone, BACKBONES)
    network = BACKBONES[backbone]
    weight_of = layer_weights(network, DEFAULT_LAYERS[backbone] if layers is None else layers)
    choice(f"{name}: weights", weights, _WEIGHTS)
    normalise = _PREPROCESSING[choice(f"{name}: preprocess", preprocess, _PREPROCESSING)]
    choice(f"{name}: gram_normalization", gram_normalization, GRAM_NORMALIZATIONS)
    choice(f"{name}: metric", metric, METRICS)
    measure = _metrics(GRAM_NORMALIZATIONS[gram_normalization])[metric]
    precision = as_precision(precision)
    smallest = network.smallest_input(weight_of)
    prepare = mapper(
        name,
        value_range,
        SIGNED,
        dtype=dtype,
        channels=3,
        min_size=(smallest, smallest),
        largest=measure.largest,
    )
    trained = weights == "imagenet"
    weight_set = backbone if trained else name

    def init(key: Key) -> Params:
        if trained:
            params = dict(pretrained(backbone)(key))
        else:
            # One key gives one network per backbone, whatever the metric, the layers or the
            # value range: variants differ by what their options say and by nothing else.
            own_key = jax.random.fold_in(key, zlib.crc32(backbone.encode()))
            zero_mean_first = weights == "random-zero-mean"
            params = {name: network.random_params(own_key, zero_mean_first=zero_mean_first)}
        if measure.draw is not None:
            params[f"{name}/draws"] = {
                layer: measure.draw(
                    jax.random.fold_in(key, zlib.crc32(layer.encode())), network.channels(layer)
                )
                for layer in weight_of
            }
        return params

    def embed(params: Params, images: ImageLike) -> Embedding:
        draws = dict.fromkeys(weight_of)
        if measure.draw is not None:
            if f"{name}/draws" not in params:
                raise missing_params(name, f"{name}/draws", params)
            draws = params[f"{name}/draws"]
        if weight_set not in params:
            raise missing_params(name, weight_set, params)
        found = network.features(
            params[weight_set], normalise(prepare(images)), weight_of, precision=precision
        )
        return {layer: measure.embed(found[layer], draws[layer]) for layer in weight_of}

    def parts(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        del params
        return {
            layer: weight / len(weight_of) * measure.compare(ex[layer], ey[layer])
            for layer, weight in weight_of.items()
        }

    if measure.local:
        return distance_from_maps(name, embed, parts, init=init)
    return distance_from_terms(name, embed, parts, init=init, any_sizes=measure.any_sizes)


def layer_weights(
    network: Backbone, layers: str | Sequence[str] | Mapping[str, float]
) -> dict[str, float]:
    """`{layer: weight}` of layers given by name, 1 each, or with their weights; checked."""
    if isinstance(layers, str):
        layers = (layers,)
    names = network.checked_layers(layers)
    if not isinstance(layers, Mapping):
        return dict.fromkeys(names, 1.0)
    return {
        layer: finite_number(f"{network.name}: the weight of {layer!r}", layers[layer])
        for layer in names
    }
