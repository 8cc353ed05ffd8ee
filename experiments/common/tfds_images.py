"""Images of TensorFlow data sets that were prepared as array records, read without TensorFlow."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from perceptual_jax.errors import InputError

__all__ = ["opened"]


def opened(data: str) -> tuple[int, Callable[[int], np.ndarray]]:
    """How many images a split has, and what reads one of them: uint8 [h, w, 3].

    Args:
      data: `name/split` or `name/config/split`, prepared in TFDS_DATA_DIR.

    Raises:
      InputError: if it has not been prepared as array records, or holds no images.
    """
    name, _, split = data.rpartition("/")
    if not name:
        raise InputError(f"--data tfds:{data} must say which split: tfds:NAME/SPLIT")
    try:
        builder = tfds.builder(name)
        kinds = dict(builder.info.features or {})
        feature = next((key for key, kind in kinds.items() if _is_image(kind)), None)
        if feature is None:
            raise InputError(f"tfds:{data} has no images, but {', '.join(kinds) or 'nothing'}")
        source = builder.as_data_source(split=split, decoders={feature: tfds.decode.SkipDecoding()})
    except InputError:
        raise
    except Exception as error:  # It raises errors of every kind, some of many lines.
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"tfds:{data} cannot be read ({reason}): prepare it with tfds build {name} "
            "--file_format array_record (TFDS_DATA_DIR says where)"
        ) from error

    def read(number: int) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(source[number][feature])).convert("RGB"))

    return len(source), read


def _is_image(kind: object) -> bool:
    return isinstance(kind, tfds.features.Image)
