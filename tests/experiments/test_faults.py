"""What may go wrong with a run's folder: said in one line, and the run goes on afterwards."""

import dataclasses
import errno
import os
import subprocess
from contextlib import suppress

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perceptual_jax as pj
from experiments.common import checkpoint
from experiments.common.learned import learned_and_held_out
from experiments.common.run_folder import RunFolder, resumed, start
from experiments.common.training import Method, Network, Schedule, train

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
SCHEDULE = Schedule(epochs=4, batch=4, snapshot_every=2, keep=2)
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@dataclasses.dataclass(frozen=True)
class Config:
    out: str
    name: str = "a"
    resume: bool = False


def init(key):
    return {"scale": jnp.ones(()), "kernel": jax.random.normal(key, (64,))}, {}


def scaled(params, running, images):
    return params["scale"] * images + params["kernel"].mean(), running


def run(out, *, resume=False, snapshot=lambda step: None):
    """Eight steps of a network of 65 numbers, saved at every second one."""
    config = resumed("faults", Config(str(out), resume=resume))

    def drawn(step, state):
        snapshot(step)
        return {}

    return train(
        Method(Network(init, scaled, scaled), pj.make("l2"), optax.sgd(0.1)),
        IMAGES,
        SCHEDULE,
        key=jax.random.key(0),
        label={"distance": "l2"},
        folder=start("faults", config),
        asked_to_stop=lambda: False,
        snapshot=drawn,
    )


def equal(found, wanted):
    assert found.metrics == wanted.metrics
    jax.tree.map(np.testing.assert_array_equal, found.state, wanted.state)


# --- No room, or no right ------------------------------------------------------------------


def log_finds_no_room(patch, tmp_path):
    real = RunFolder.log

    def log(folder, **line):
        if line["step"] == 6:
            raise FULL
        real(folder, **line)

    patch.setattr(RunFolder, "log", log)


def checkpoint_finds_no_room(patch, tmp_path):
    real = checkpoint._write

    def write(path, *rest):
        if path.name == "6":
            raise FULL
        real(path, *rest)

    patch.setattr(checkpoint, "_write", write)


def picture_finds_no_room(patch, tmp_path):
    def snapshot(step):
        if step == 6:
            raise FULL

    return snapshot


@pytest.mark.parametrize(
    "fault", [log_finds_no_room, checkpoint_finds_no_room, picture_finds_no_room]
)
def test_on_a_full_disk_the_last_checkpoint_is_kept_and_gone_on_from(tmp_path, monkeypatch, fault):
    wanted = run(tmp_path / "whole")
    message = (
        r"step 6 of l2 cannot be saved: .*No space left.*the checkpoint of step 4 is kept in "
        r".*make room there, then go on with: perceptual-jax faults .* --name a --resume"
    )
    with monkeypatch.context() as patch:
        snapshot = fault(patch, tmp_path) or (lambda step: None)
        with pytest.raises(pj.InputError, match=message):
            run(tmp_path / "broken", snapshot=snapshot)
    equal(run(tmp_path / "broken", resume=True), wanted)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 160 KiB, of which a test may remove "ballast"."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    with (folder / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


def test_a_disk_that_is_full(small_disk, tmp_path):
    """As above, with nothing in place of the system."""
    wanted = run(tmp_path / "whole")
    with pytest.raises(pj.InputError, match=r"No space left.*step 4 is kept.*make room"):
        run(small_disk, snapshot=lambda step: fill(small_disk) if step == 6 else None)
    (small_disk / "ballast").unlink()
    equal(run(small_disk, resume=True), wanted)


def test_a_folder_that_is_read_only(small_disk, tmp_path):
    wanted = run(tmp_path / "whole")
    with pytest.raises(pj.InputError, match="No space left"):
        run(small_disk, snapshot=lambda step: fill(small_disk) if step == 6 else None)
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(pj.InputError, match=r"Read-only.*step 4 is kept.*let it be written to"):
        run(small_disk, resume=True)
    with pytest.raises(pj.InputError, match=r"Read-only.*choose another --out"):
        start("others", Config(str(small_disk)))
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    equal(run(small_disk, resume=True), wanted)


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path, monkeypatch):
    def write(*_):
        raise FULL

    monkeypatch.setattr(RunFolder, "write_json", write)
    with pytest.raises(pj.InputError, match=r"No space left.*make room there or choose another"):
        start("faults", Config(str(tmp_path / "runs")))
    assert list(tmp_path.iterdir()) == []


# --- Damaged checkpoints -------------------------------------------------------------------


def test_a_damaged_checkpoint_is_gone_round(tmp_path, capsys):
    """The last one cannot be read: the one before is gone on from, to the same end."""
    wanted = run(tmp_path)
    saved = tmp_path / "faults" / "a" / "checkpoints" / "l2"
    for file in (saved / "8" / "state").rglob("*"):
        if file.is_file():
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 0x55
            file.write_bytes(data)
    equal(run(tmp_path, resume=True), wanted)
    assert "going on from step 6" in capsys.readouterr().out


# --- Options that were changed -------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--steps", "7"], "--steps 7 was given, but the run a was started with 150"),
        (["--distances=l1"], "--distances l1 was given, but"),
        (["--preset", "quick"], "--"),
    ],
)
def test_options_changed_on_resuming_are_refused(cli, tmp_path, given, message):
    from experiments.image_mean import PRESETS

    begun = dataclasses.replace(PRESETS["default"], out=str(tmp_path / "runs"), name="a")
    start("image-mean", begun)
    outcome = cli("image-mean", "--name", "a", "--resume", *given)
    assert outcome.code == 2
    assert message in outcome.err
    assert "leave it out" in outcome.err
    assert outcome.err.count("\n") == 1


# --- Data that were changed ----------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "[1]", '{"1.png": 3}', "\x00"])
def test_what_is_remembered_of_data_may_be_damaged(tmp_path, text):
    folder = start("faults", Config(str(tmp_path)))
    (folder.path / "data.json").write_text(text)
    with pytest.raises(pj.InputError, match=r"data\.json cannot be read .*delete it"):
        folder.same_data({"1.png": {"bytes": 3}})


def gone(folder):
    (folder / "3.png").unlink()


def new(folder):
    (folder / "33.png").write_bytes((folder / "4.png").read_bytes())


def changed(folder):
    (folder / "3.png").write_bytes((folder / "4.png").read_bytes())


def changed_to_the_same_length(folder):
    """Pictures without compression, of as many bytes each."""
    pj.images.write(folder / "3.png", np.zeros((16, 16, 3)))
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes().ljust(2000, b"\0"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (gone, "3.png is gone"),
        (new, "33.png is new"),
        (changed, "3.png was changed"),
        (changed_to_the_same_length, "3.png was changed"),
    ],
)
@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_a_run_is_not_resumed_with_other_data(tmp_path, picture, change, message, memory):
    for i in range(10):
        path = picture(f"data/{i}.png", seed=i, size=(16, 16 + i % 3))
        path.write_bytes(path.read_bytes().ljust(2000 + i, b"\0"))
    three = tmp_path / "data" / "3.png"
    three.write_bytes(three.read_bytes()[:2000])
    options = {"size": 16, "count": 100, "held_out": 0.3, "seed": 0, "memory": memory}

    def both(resume):
        config = Config(str(tmp_path / "runs"), resume=resume)
        folder = start("faults", config)
        return learned_and_held_out(str(tmp_path / "data"), folder=folder, **options)

    first, again = both(False), both(True)
    for a, b in zip(first, again, strict=True):
        assert a.names == b.names
        np.testing.assert_array_equal(a.images, b.images)
    change(tmp_path / "data")
    if memory == 0 and change is changed_to_the_same_length and "3.png" in first[0].names:
        # What it learns from is in the run's own file: nothing is lost.
        np.testing.assert_array_equal(both(True)[0].images, first[0].images)
        return
    with pytest.raises(pj.InputError, match=rf"learned from other data: {message}; put the data"):
        both(True)
