"""BAPPS as a TensorFlow data set, prepared and read without TensorFlow.

What people said of images (Zhang et al. 2018), for those who keep their data as array records:

    tfds build experiments/common/bapps_tfds.py --manual_dir DATA --file_format array_record
    perceptual-jax two-afc --data tfds:bapps/val

DATA is the folder that holds the authors' `2afc` and `jnd`. Of their files nothing is changed:
images are kept as they are compressed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from experiments.common.triplets import FOLDERS, WHERE_FROM, Judgements, Test, bapps
from perceptual_jax.errors import InputError

__all__ = ["Bapps", "read"]


class Bapps(tfds.core.GeneratorBasedBuilder):
    """Configurations `2afc` (ref, p0, p1, judge) and `jnd` (p0, p1, same); splits train and val."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = WHERE_FROM
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name=test) for test in FOLDERS]

    def _info(self) -> tfds.core.DatasetInfo:
        images, judged = FOLDERS[self.builder_config.name]
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    **{image: tfds.features.Image(shape=(None, None, 3)) for image in images},
                    judged: tfds.features.Scalar(np.float32),
                    "kind": tfds.features.Text(),
                }
            ),
            homepage="https://richzhang.github.io/PerceptualSimilarity/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        test = self.builder_config.name
        top = Path(dl_manager.manual_dir) / test
        return {
            subset: self._generate_examples(bapps(top / subset, test, subset))
            for subset in ("train", "val")
            if (top / subset).is_dir()
        }

    def _generate_examples(self, data: Judgements) -> Iterator[tuple[int, dict]]:
        images, judged = FOLDERS[self.builder_config.name]
        for number, (item, judge) in enumerate(zip(data.items, data.judge, strict=True)):
            # Paths, not arrays: those TensorFlow would compress.
            paths = {image: data.names[i] for image, i in zip(images, item.tolist(), strict=True)}
            kind = data.splits[data.split[number]]
            yield number, {**paths, judged: float(judge), "kind": kind}


def read(data: str, test: Test) -> Judgements:
    """The judgements of a prepared split; images are decoded when they are asked for.

    Args:
      data: `bapps/val` or `bapps/train`.
      test: which of the tests.

    Raises:
      InputError: if it has not been prepared, or is not BAPPS.
    """
    name, _, subset = data.partition("/")
    if name != "bapps" or subset not in ("train", "val"):
        raise InputError(f"tfds:bapps/val and tfds:bapps/train can be read; got tfds:{data}")
    images, judged = FOLDERS[test]
    builder = Bapps(config=test, file_format="array_record")
    if subset not in (builder.info.splits or {}):
        raise InputError(
            f"tfds:{data} has not been prepared in {builder.data_dir}: "
            "tfds build experiments/common/bapps_tfds.py --manual_dir DATA "
            f"--file_format array_record (TFDS_DATA_DIR says where). {WHERE_FROM}"
        )
    compressed = {image: tfds.decode.SkipDecoding() for image in images}
    source = builder.as_data_source(split=subset, decoders=compressed)
    record = lru_cache(maxsize=256)(source.__getitem__)
    kinds: dict[bytes, int] = {}
    judge, split = [], []
    for number in range(len(source)):
        found = source[number]
        judge.append(float(found[judged]))
        split.append(kinds.setdefault(found["kind"], len(kinds)))

    def image(index: int) -> np.ndarray:
        number, place = divmod(index, len(images))
        return np.asarray(Image.open(io.BytesIO(record(number)[images[place]])).convert("RGB"))

    count = len(source)
    return Judgements(
        names=[f"{number}-{image}" for number in range(count) for image in images],
        read=image,
        items=np.arange(count * len(images), dtype=np.int32).reshape(count, len(images)),
        judge=np.asarray(judge),
        votes=None,
        splits=tuple(kind.decode() for kind in kinds),
        split=np.asarray(split, np.int32),
    )
