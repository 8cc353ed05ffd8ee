"""Names for the array types that signatures speak of.

jaxtyping is not a dependency of the library: where it is missing, the shapes in
annotations remain what they mostly are, text for the reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from jaxtyping import Array, Float
else:
    try:
        from jaxtyping import Array, Float
    except ModuleNotFoundError:
        from jax import Array

        class _Shaped:
            def __class_getitem__(cls, _item: object) -> type:
                return Array

        Float = _Shaped

import numpy as np

__all__ = [
    "Array",
    "Embedding",
    "Float",
    "ImageLike",
    "Key",
    "Params",
    "Terms",
    "ValueRange",
]

ImageLike: TypeAlias = "Array | np.ndarray"
"""Images as a caller may give them: NHWC, floats in the value range or uint8."""

Key: TypeAlias = "Array"
"""A JAX random key, as `jax.random.key` makes it."""

Params: TypeAlias = Mapping[str, Any]
"""A flat dict keyed by weight set: `{"vgg16": {"conv1_1": {"kernel": ..., "bias": ...}}}`."""

Embedding: TypeAlias = Any
"""A pytree whose leaves have the batch as their leading axis."""

Terms: TypeAlias = "dict[str, Array]"
"""Named parts of a distance; they add up to it."""

ValueRange: TypeAlias = Sequence[float]
"""The (low, high) that float images span."""
