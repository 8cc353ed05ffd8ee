"""Image files damaged in every way: a picture, or one line that names the file."""

import random

import numpy as np
import pytest
from PIL import Image

from perceptual_jax import images
from tests.fuzz.bounds import watched
from tests.fuzz.damage import damaged
from tests.fuzz.pictures import bombs, chunk, png, seeds

pytestmark = pytest.mark.slow


def test_damaged_pictures(tmp_path):
    """Every seed damaged once to three times; three in four at the default limit of pixels."""
    rng = random.Random(0)
    files = list(seeds().items())
    count = 30_000
    path = tmp_path / "picture"
    Image.init()
    for _, data in files:  # Once outside of the watch: what decoders import, they import here.
        path.write_bytes(data)
        images_or_none(path)
    with watched(tmp_path) as cases:
        for number in range(count):
            name, data = files[number % len(files)]
            for _ in range(number // len(files) % 4):
                data = damaged(data, rng)
                if not data:
                    data = b"\0"
            path.write_bytes(data)
            limit = 10**4 if number % 4 else images.MAX_PIXELS // 100
            found = cases.run(
                lambda limit=limit: images.read(path, max_pixels=limit), (name, data), str(path)
            )
            if found is not None and not sound(found, limit):
                cases.wrong.append(f"{name}: gave {found.dtype}{found.shape}")
    cases.check(count)


def images_or_none(path):
    try:
        return images.read(path)
    except images.InputError:
        return None


def sound(found, limit) -> bool:
    return (
        found.dtype == np.uint8
        and found.ndim == 3
        and found.shape[2] == 3
        and 0 < found.shape[0] * found.shape[1] <= limit
    )


def test_chunks_of_any_kind(tmp_path):
    """PNG files whose checksums are right: damage inside of the chunks, and chunks out of order."""
    rng = random.Random(1)
    kinds = [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"gAMA", b"cHRM",
             b"pHYs", b"sRGB", b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IHDR", b"xxxx"]  # fmt: skip
    bodies = [b"", b"a\0b", b"a\0\0" + bytes(8), bytes(4), bytes(13), bytes(26), bytes(767)]
    bodies += [b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
    bodies += [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03" + bytes(8)]
    count = 5_000
    path = tmp_path / "picture.png"
    path.write_bytes(png(1, 1, pixels=bytes(4)))
    images.read(path)
    with watched(tmp_path) as cases:
        for number in range(count):
            chunks = []
            for _ in range(rng.randint(0, 3)):
                body = rng.choice(bodies)
                if body and rng.random() < 0.7:
                    body = damaged(body, rng)
                chunks.append(chunk(rng.choice(kinds), body))
            side = rng.choice([1, 1, 1, 2, 0, 2**31])
            data = png(side, 1, chunks, pixels=bytes(rng.choice([4, 7, 0])))
            path.write_bytes(data)
            cases.run(lambda: images.read(path), (number, data), str(path))
    cases.check(count)


def test_small_files_of_large_pictures(tmp_path):
    """Refused soon and in little memory, or read, where what is large is thrown away."""
    files = bombs()
    with watched(tmp_path) as cases:
        for name, data in files.items():
            path = tmp_path / name
            path.write_bytes(data)
            cases.run(lambda path=path: images.read(path), name, str(path))
    cases.check(len(files))
