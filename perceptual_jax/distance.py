"""The one idea: a perceptual distance is an embedding and a comparison.

    distance(x, y) = compare(embed(x), embed(y))

`Distance` keeps the two halves apart, so that a target is embedded once and compared many
times. The combinators make distances out of distances; `pairwise` compares two sets.

Conventions, for every distance:
  images are [n, h, w, c], floats in the distance's `value_range` or uint8 in [0, 255];
  a distance is one number per pair, [n], smaller is closer; the caller reduces;
  sample i never depends on sample j; an embedding with n = 1 compares with any other n;
  numbers come back in float32, or float64 where the images are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Embedding, Float, ImageLike, Key, Params, Terms
from perceptual_jax.errors import InputError, finite_number, shortened
from perceptual_jax.ops.copies import copies
from perceptual_jax.ops.value_range import at_least_float32

__all__ = [
    "Distance",
    "distance_from_maps",
    "distance_from_terms",
    "missing_params",
    "pairwise",
    "size_of",
    "weighted_sum",
]


T = TypeVar("T")


class Distance(NamedTuple):
    """A perceptual distance: pure functions and a name; nothing is hidden.

    Attributes:
      name: the canonical spec; `perceptual_jax.make(name)` makes a distance of the catalogue
        again. That of a combination says what it is made of, for people.
      init: `init(key) -> params`, a flat dict keyed by weight set: pretrained weights from the
        local store, random draws from the key, `{}` where there is nothing to learn or draw.
      embed: `embed(params, images [n, h, w, c]) -> embedding`, leaves with leading axis n.
      compare: `compare(params, ex, ey) -> [n]`.
      compare_terms: `(params, ex, ey) -> {term: [n]}`, named parts that add up to the
        distance; None where it has only one.
      compare_maps: `(params, ex, ey) -> {term: [n, h', w']}`, where the distance comes from:
        the spatial mean of a map is its term; None where the distance is not local.

    Example:
      >>> import jax, jax.numpy as jnp, perceptual_jax as pj
      >>> l2 = pj.make("l2", value_range=(-1, 1))
      >>> params = l2.init(jax.random.key(0))
      >>> x, y = jnp.zeros((3, 8, 8, 3)), jnp.full((1, 8, 8, 3), 0.5)
      >>> l2(params, x, y).tolist()
      [0.25, 0.25, 0.25]
      >>> target = l2.embed(params, y)  # once, outside the loop
      >>> l2.compare(params, l2.embed(params, x), target).tolist()
      [0.25, 0.25, 0.25]
    """

    name: str
    init: Callable[[Key], Params]
    embed: Callable[[Params, ImageLike], Embedding]
    compare: Callable[[Params, Embedding, Embedding], Array]
    compare_terms: Callable[[Params, Embedding, Embedding], Terms] | None = None
    compare_maps: Callable[[Params, Embedding, Embedding], Terms] | None = None

    def __call__(self, params: Params, x: ImageLike, y: ImageLike) -> Float[Array, " n"]:
        """The distance of each pair: x and y are [n, h, w, c], or either has n = 1.

        Raises:
          InputError: (a ValueError, at trace time) where the images cannot be compared.
        """
        return self._on_images(self.compare, params, x, y)

    def terms(self, params: Params, x: ImageLike, y: ImageLike) -> Terms:
        """The distance's named parts, each [n]; they add up to the distance."""
        if self.compare_terms is None:
            return {self.name: self(params, x, y)}
        return self._on_images(self.compare_terms, params, x, y)

    def map(self, params: Params, x: ImageLike, y: ImageLike) -> Float[Array, "n h w"]:
        """Where x and y differ: the distance's maps, resized bilinearly to [n, h, w] and summed.

        Raises:
          InputError: where the distance is not a mean over places (a Gram distance, say).
        """
        if self.compare_maps is None:
            raise InputError(f"{self.name} has no map: it is not a mean over places")
        maps = self._on_images(self.compare_maps, params, x, y)
        height, width = x.shape[1:3]
        return sum(
            jax.image.resize(m, (m.shape[0], height, width), "bilinear") for m in maps.values()
        )

    def _on_images(
        self, compare: Callable[[Params, Embedding, Embedding], T], params: Params, x: Any, y: Any
    ) -> T:
        """Compares the embeddings of images; of what does not match, the images are named."""
        try:
            return compare(params, self.embed(params, x), self.embed(params, y))
        except _MismatchError:
            raise InputError(
                f"{self.name}: x {tuple(x.shape)} and y {tuple(y.shape)} cannot be compared: "
                "they must have the same size, and the same n or n = 1; "
                "resize one of them (pj.images.resize) or crop both"
            ) from None


class _MismatchError(InputError):
    """Two embeddings that cannot be compared."""


# --- Making distances ----------------------------------------------------------------------


def _no_params(key: Key) -> Params:
    del key
    return {}


def distance_from_terms(
    name: str,
    embed: Callable[[Params, ImageLike], Embedding],
    terms: Callable[[Params, Embedding, Embedding], Terms],
    *,
    init: Callable[[Key], Params] = _no_params,
    any_sizes: bool = False,
) -> Distance:
    """A distance that is a sum of named terms.

    Args:
      name: the canonical spec.
      embed: `(params, images) -> embedding`.
      terms: `(params, ex, ey) -> {term: [n]}`; it may rely on embeddings that match up to
        broadcasting over the batch, and on float32 or wider leaves.
      init: `key -> params`; by default there are none.
      any_sizes: whether images, and so leaves, may differ in size.
    """
    compare_terms = _checked(name, terms, any_sizes)

    def compare(params: Params, ex: Embedding, ey: Embedding) -> Array:
        return sum(compare_terms(params, ex, ey).values())  # type: ignore[return-value]

    return Distance(name, init, embed, compare, compare_terms)


def distance_from_maps(
    name: str,
    embed: Callable[[Params, ImageLike], Embedding],
    maps: Callable[[Params, Embedding, Embedding], Terms],
    *,
    init: Callable[[Key], Params] = _no_params,
) -> Distance:
    """A distance that is a sum of spatial means: `maps(params, ex, ey) -> {term: [n, h', w']}`.

    Otherwise as `distance_from_terms`; the term of a map is its mean.
    """

    def terms(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        return {term: m.mean(axis=(1, 2)) for term, m in maps(params, ex, ey).items()}

    distance = distance_from_terms(name, embed, terms, init=init)
    return distance._replace(compare_maps=_checked(name, maps))


def size_of(images: Float[Array, "n h w c"]) -> Float[Array, "n h w 0"]:
    """An empty leaf for an embedding that would else not show the size of the images.

    Embeddings of images of another size then do not match.
    """
    return images[..., :0]


def missing_params(name: str, weight_set: str, params: Params) -> InputError:
    """The error for params that lack what a distance needs."""
    have = ", ".join(map(repr, params)) if isinstance(params, Mapping) else type(params).__name__
    return InputError(
        f"{name}: params lack {weight_set!r} (they have: {have or 'nothing'}); "
        "pass what the distance's init(key) returned"
    )


def _checked(
    name: str, parts: Callable[[Params, Embedding, Embedding], Terms], any_sizes: bool = False
) -> Callable[[Params, Embedding, Embedding], Terms]:
    """Adds what every comparison does first: check the embeddings, widen narrow floats."""

    def compare_parts(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        problem = _mismatch(ex, ey, any_sizes)
        if problem is not None:
            raise _MismatchError(f"{name}: the embeddings cannot be compared: {problem}")
        return parts(params, *_broadcast(_widened(ex), _widened(ey)))

    return compare_parts


def _mismatch(ex: Embedding, ey: Embedding, any_sizes: bool) -> str | None:
    """Says why two embeddings do not match up to broadcasting over the batch, or None."""
    leaves_x, tree_x = jax.tree.flatten(ex)
    leaves_y, tree_y = jax.tree.flatten(ey)
    if bool(tree_x != tree_y):  # type: ignore[operator]
        return f"their structures differ: {tree_x} and {tree_y}"
    for leaf_x, leaf_y in zip(leaves_x, leaves_y, strict=True):
        n, m = leaf_x.shape[0], leaf_y.shape[0]
        fitting = leaf_x.ndim == leaf_y.ndim if any_sizes else leaf_x.shape[1:] == leaf_y.shape[1:]
        if not fitting or (n != m and 1 not in (n, m)):
            return f"shapes {leaf_x.shape} and {leaf_y.shape}"
    return None


def _broadcast(ex: Embedding, ey: Embedding) -> tuple[Embedding, Embedding]:
    """Gives both the larger batch of the two."""
    sizes = [leaf.shape[0] for leaf in jax.tree.leaves((ex, ey))]
    n = 0 if 0 in sizes else max(sizes, default=1)
    if all(size == n for size in sizes):
        return ex, ey
    return jax.tree.map(lambda leaf: leaf if leaf.shape[0] == n else copies(leaf, n), (ex, ey))


def _widened(embedding: Embedding) -> Embedding:
    """Casts leaves narrower than float32 to it: sums of bfloat16 would lose the differences."""
    return jax.tree.map(at_least_float32, embedding)


# --- Sums ----------------------------------------------------------------------------------


def weighted_sum(
    parts: Mapping[str, tuple[float, Distance]], *, name: str | None = None
) -> Distance:
    """The weighted sum of distances, named for logging.

    Params are those of all parts in one dict: distances on one pretrained backbone share it.
    `terms(params, x, y)` gives each part's weighted contribution; they add up to the sum.

    Args:
      parts: `{term: (weight, distance)}`.
      name: the sum's name; by default it spells out the parts.

    Raises:
      InputError: if there are no parts or a weight is not a finite number.

    Example:
      >>> import perceptual_jax as pj
      >>> loss = pj.weighted_sum({"l1": (1.0, pj.make("l1")), "ssim": (0.1, pj.make("ssim"))})
      >>> loss.name
      'weighted_sum(1.0 * l1 + 0.1 * ssim)'
    """
    if not parts:
        raise InputError("weighted_sum needs at least one part: {term: (weight, distance)}")
    for term, part in parts.items():
        if not (isinstance(part, tuple) and len(part) == 2 and isinstance(part[1], Distance)):
            raise InputError(
                f"weighted_sum: {term!r} must be (weight, distance), a distance as pj.make gives "
                f"it; got {shortened(repr(part))}"
            )
        finite_number(f"weighted_sum: the weight of {term!r}", part[0])
    parts = dict(parts)
    if name is None:
        name = f"weighted_sum({' + '.join(f'{w} * {d.name}' for w, d in parts.values())})"

    def init(key: Key) -> Params:
        return {k: v for _, d in parts.values() for k, v in d.init(key).items()}

    def embed(params: Params, images: ImageLike) -> Embedding:
        return {term: d.embed(params, images) for term, (_, d) in parts.items()}

    def terms(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        return {
            term: weight * d.compare(params, ex[term], ey[term])
            for term, (weight, d) in parts.items()
        }

    # Whether images may differ in size is for the parts to say.
    distance = distance_from_terms(name, embed, terms, init=init, any_sizes=True)
    if any(d.compare_maps is None for _, d in parts.values()):
        return distance

    def maps(params: Params, ex: Embedding, ey: Embedding) -> Terms:
        return {
            f"{term}/{inner}": weight * m
            for term, (weight, d) in parts.items()
            for inner, m in d.compare_maps(params, ex[term], ey[term]).items()  # type: ignore[misc]
        }

    return distance._replace(compare_maps=maps)


# --- Sets ----------------------------------------------------------------------------------

_CHUNK_BYTES = 64 * 2**20
"""What the differences of one chunk of pairs may take where the caller does not say."""


def pairwise(
    distance: Distance,
    params: Params,
    ex: Embedding,
    ey: Embedding,
    *,
    chunk: int | None = None,
) -> Float[Array, "n m"]:
    """The distance of every x to every y, in bounded memory, forward and backward.

    Args:
      distance: the distance that made the embeddings.
      params: its params.
      ex: embedding of n images.
      ey: embedding of m images.
      chunk: how many pairs to compare at a time; by default as many as keep a chunk of the
        embeddings within 64 MiB.

    Returns:
      Distances [n, m].

    Raises:
      InputError: if chunk is not positive or the embeddings do not match.

    Example:
      >>> import jax.numpy as jnp, perceptual_jax as pj
      >>> l1 = pj.make("l1", value_range=(-1, 1))
      >>> x = jnp.stack([jnp.full((4, 4, 3), value) for value in (0.0, 0.25, 1.0)])
      >>> embedding = l1.embed({}, x)
      >>> pj.pairwise(l1, {}, embedding, embedding[:2]).tolist()
      [[0.0, 0.25], [0.25, 0.0], [1.0, 0.75]]
    """
    n, m = _batch_size(ex), _batch_size(ey)
    if chunk is None:
        bytes_per_pair = sum(leaf.nbytes // max(leaf.shape[0], 1) for leaf in jax.tree.leaves(ey))
        chunk = max(1, _CHUNK_BYTES // max(bytes_per_pair, 1))
    if chunk < 1:
        raise InputError(f"pairwise: chunk must be at least 1; got {chunk}")
    if n == 0 or m == 0:
        return jnp.zeros((n, m), jnp.float32)
    columns = min(chunk, m)
    rows = max(1, chunk // columns)
    blocks = -(-m // columns)

    # Rematerialised, so that the gradient's memory is that of one chunk as well.
    @jax.checkpoint
    def compare_row(one: Embedding, block: Embedding) -> Array:
        alone = jax.tree.map(lambda leaf: leaf[None], one)
        return distance.compare(params, alone, block)

    def compare_block(block: Embedding) -> Array:
        return jax.lax.map(lambda one: compare_row(one, block), ex, batch_size=min(rows, n))

    if blocks == 1:
        return compare_block(ey)
    # The last block wraps around to be as long as the others; the excess is cut off below.
    indices = (jnp.arange(blocks * columns) % m).reshape(blocks, columns)
    by_block = jax.lax.map(
        lambda index: compare_block(jax.tree.map(lambda leaf: leaf[index], ey)), indices
    )
    return jnp.moveaxis(by_block, 0, 1).reshape(n, blocks * columns)[:, :m]


def _batch_size(embedding: Embedding) -> int:
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(embedding)}
    if len(sizes) != 1:
        raise InputError(f"an embedding's leaves must share their leading axis; got sizes {sizes}")
    return sizes.pop()
