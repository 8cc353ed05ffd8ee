"""Pictures to learn from: in memory or in a file, from folders or array records, changed or not."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

import perceptual_jax as pj
from experiments.common import learned
from experiments.common.augment import augmented
from experiments.common.learned import forget_cache, learned_and_held_out
from experiments.common.run_folder import start
from experiments.common.training import Schedule, _draw

OPTIONS = {"size": 16, "count": 20, "held_out": 0.3, "seed": 0}


@dataclasses.dataclass(frozen=True)
class Config:
    out: str
    name: str = "a"
    resume: bool = False


@pytest.fixture
def folder(tmp_path):
    return start("glo", Config(str(tmp_path / "runs")))


# --- Which are too many --------------------------------------------------------------------


def test_images_in_a_file_are_those_in_memory(folder):
    wanted, held = learned_and_held_out("embedded", **OPTIONS)
    found, also_held = learned_and_held_out("embedded", **OPTIONS, memory=0, folder=folder)
    assert (folder.path / "images.npy").exists()
    assert isinstance(found.images.base, np.memmap)
    assert (found.names, also_held.names) == (wanted.names, held.names)
    np.testing.assert_array_equal(found.images, wanted.images)
    np.testing.assert_array_equal(also_held.images, held.images)
    schedule = Schedule(epochs=2, batch=4, snapshot_every=1)
    for step in range(5):
        for a, b in zip(*(_draw(x.images, schedule, step) for x in (found, wanted)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_fits_makes_no_file(folder):
    images = learned_and_held_out("embedded", **OPTIONS)[0].images
    learned_and_held_out("embedded", **OPTIONS, memory=images.nbytes / 2**30, folder=folder)
    assert not (folder.path / "images.npy").exists()


def test_the_file_is_made_once_and_removed_when_a_run_is_done(folder, monkeypatch):
    first, _ = learned_and_held_out("embedded", **OPTIONS, memory=0, folder=folder)
    made = (folder.path / "images.npy").stat().st_mtime_ns
    again, _ = learned_and_held_out("embedded", **OPTIONS, memory=0, folder=folder)
    assert (folder.path / "images.npy").stat().st_mtime_ns == made
    np.testing.assert_array_equal(first.images, again.images)
    forget_cache(folder)
    forget_cache(folder)
    assert not (folder.path / "images.npy").exists()


def test_a_file_that_was_not_finished_is_not_there(folder, monkeypatch):
    real, taken = learned.centre_square, []

    def stop_after_five(picture, size):
        taken.append(picture)
        if len(taken) > 5:
            raise KeyboardInterrupt
        return real(picture, size)

    monkeypatch.setattr(learned, "centre_square", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
        learned_and_held_out("embedded", **OPTIONS, memory=0, folder=folder)
    assert {path.name for path in folder.path.iterdir()} == {".lock", "config.json"}


@pytest.mark.parametrize("damage", [lambda data: data[:500], lambda data: data[:20]])
def test_a_damaged_file_says_what_to_delete(folder, damage):
    learned_and_held_out("embedded", **OPTIONS, memory=0, folder=folder)
    path = folder.path / "images.npy"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(pj.InputError, match=r"images\.npy cannot be read .*delete it"):
        learned_and_held_out("embedded", **OPTIONS, memory=0, folder=folder)


# --- Array records -------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import tensorflow_datasets as tfds
from experiments.common.data import centre_square
from experiments.common.learned import learned_and_held_out
import perceptual_jax as pj

class Tiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"label": tfds.features.Scalar(np.int32), "picture": tfds.features.Image()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, path in enumerate(sorted(Path(sys.argv[1]).iterdir())):
            yield i, {"label": i, "picture": str(path)}

Tiny(file_format="array_record").download_and_prepare()
options = dict(size=16, count=100, held_out=.3, seed=0)
found, held = learned_and_held_out("tfds:tiny/train", **options)
assert len(found.names) + len(held.names) == 12
got = sorted(image.tobytes() for part in (found, held) for image in part.images)
files = Path(sys.argv[1]).iterdir()
assert got == sorted(centre_square(pj.images.read(file), 16).tobytes() for file in files)
for data in ("tfds:tiny/test", "tfds:absent/train", "tfds:tiny"):
    try:
        learned_and_held_out(data, **options)
    except ValueError as error:
        assert data in str(error) and ("tfds build" in str(error) or "SPLIT" in str(error)), error
    else:
        raise SystemExit("read what was never prepared: " + data)
assert "tensorflow" not in sys.modules
print("read")
"""


@pytest.mark.slow
def test_array_records(tmp_path, picture):
    """Prepared and read in a process of its own, in which there is no TensorFlow."""
    for i in range(12):
        picture(f"data/{i:02}.png", seed=i, size=(20, 30))
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "tfds")}
    script = tmp_path / "tiny.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "data")],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.stdout.endswith("read\n"), done.stderr


# --- Changed by chance ---------------------------------------------------------------------

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def test_mirroring_swaps_left_and_right_of_about_half():
    found = augmented(IMAGES, ("mirror",), np.random.default_rng(0))
    same = (found == IMAGES).all(axis=(1, 2, 3))
    swapped = (found == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same != swapped).all()
    assert 10 <= swapped.sum() <= 30


def test_shifting_moves_by_up_to_a_sixteenth_and_fills_the_edge():
    found = augmented(IMAGES, ("shift",), np.random.default_rng(0))
    assert found.shape == IMAGES.shape
    moves = set()
    for image, original in zip(found, IMAGES, strict=True):
        places = [
            (down, across)
            for down in range(-2, 3)
            for across in range(-2, 3)
            if (np.roll(original, (down, across), (0, 1))[2:-2, 2:-2] == image[2:-2, 2:-2]).all()
        ]
        assert len(places) == 1
        moves.add(places[0])
    assert len(moves) > 10
    assert {abs(step) for move in moves for step in move} == {0, 1, 2}


def test_the_draws_are_the_steps_own_and_none_are_made_where_none_are_asked_for():
    schedule = Schedule(epochs=2, batch=8, snapshot_every=1, augment=("mirror", "shift"))
    rows, first = _draw(IMAGES, schedule, 3)
    _, again = _draw(IMAGES, schedule, 3)
    np.testing.assert_array_equal(first, again)
    plain_rows, plain = _draw(IMAGES, schedule._replace(augment=()), 3)
    np.testing.assert_array_equal(plain, IMAGES[plain_rows])
    np.testing.assert_array_equal(rows, plain_rows)
    assert (first != plain).any()
