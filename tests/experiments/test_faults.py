"""What may go wrong with a run's folder: said in one line, and the run goes on afterwards."""

import dataclasses
import datetime
import errno
import importlib
import io
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perceptual_jax as pj
from experiments import __main__ as program
from experiments.__main__ import COMMANDS
from experiments.common import checkpoint, crops, pairs, progress
from experiments.common.learned import learned_and_held_out
from experiments.common.pairs import read_ahead
from experiments.common.run_folder import RunFolder, resumed, start
from experiments.common.training import Batch, Method, Network, Schedule, Source, train

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
SCHEDULE = Schedule(epochs=4, batch=4, snapshot_every=2, keep=2)
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@dataclasses.dataclass(frozen=True)
class Config:
    out: str
    name: str | None = "a"
    resume: bool = False


def init(key):
    return {"scale": jnp.ones(()), "kernel": jax.random.normal(key, (64,))}, {}


def scaled(params, running, images):
    return params["scale"] * images + params["kernel"].mean(), running


def run(out, *, name="a", resume=False, images=IMAGES, snapshot=lambda step: None):
    """Eight steps of a network of 65 numbers, saved at every second one."""
    config = resumed("faults", Config(str(out), name, resume))

    def drawn(step, state):
        snapshot(step)
        return {}

    return train(
        Method(Network(init, scaled, scaled), pj.make("l2"), optax.sgd(0.1)),
        images,
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


# --- The clock -----------------------------------------------------------------------------

DAY, YEAR = 86_400, 365 * 86_400


@pytest.fixture
def jump(monkeypatch):
    """`jump(seconds)`: what anything in this process is told of the time is later by so much."""
    off = 0
    real, real_ns, real_datetime = time.time, time.time_ns, datetime.datetime

    class Datetime(real_datetime):
        @classmethod
        def now(cls, tz=None):
            return real_datetime.now(tz) + datetime.timedelta(seconds=off)

    def by(seconds):
        nonlocal off
        off += seconds

    monkeypatch.setattr(time, "time", lambda: real() + off)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + off * 10**9)
    monkeypatch.setattr(datetime, "datetime", Datetime)
    return by


@pytest.mark.parametrize("terminal", [True, False])
def test_the_clock_jumps_while_it_runs_and_before_it_goes_on(tmp_path, monkeypatch, jump, terminal):
    """Back by a day, then on by a year: nothing is lost, and no rate or time left is nonsense."""
    wanted = run(tmp_path / "whole")
    said = io.StringIO()
    console = progress._Console(force_terminal=terminal, file=said, width=200)
    monkeypatch.setattr(progress, "console", console)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    jumps = {2: -DAY, 4: YEAR}

    def snapshot(step):
        jump(jumps.get(step, 0))
        if step == 6:
            raise FULL

    with pytest.raises(pj.InputError, match="step 4 is kept"):
        run(tmp_path / "broken", snapshot=snapshot)
    jump(-YEAR - 2 * DAY)
    equal(run(tmp_path / "broken", resume=True), wanted)
    shown = said.getvalue()
    assert "32/32" in shown
    assert re.search(r"[0-9.e+]+( images)?/s", shown)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert not re.search(r"-[0-9]|inf|nan", shown)


def test_the_clock_jumps_while_a_checkpoint_is_saved(tmp_path, monkeypatch):
    """On by more than the minutes that Orbax, which counts by it, waits: it gives up.

    That is said, and the run goes on from the checkpoint before.
    """
    wanted = run(tmp_path / "whole")
    write = checkpoint._write

    def give_up(path, *rest):
        if path.name == "6":
            raise TimeoutError("Overall save timeout exceeded.")
        write(path, *rest)

    message = r"step 6 of l2 cannot be saved: .*clock was set forward .*step 4 is kept.* go on with"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write", give_up)
        with pytest.raises(pj.InputError, match=message):
            run(tmp_path / "broken")
    equal(run(tmp_path / "broken", resume=True), wanted)


def test_runs_without_a_name_never_share_one(tmp_path, monkeypatch, jump):
    """Begun in one second, and in one that comes again."""
    second = datetime.datetime(2030, 1, 2, 3, 4, 5)
    monkeypatch.setattr(datetime.datetime, "now", classmethod(lambda cls, tz=None: second))
    names = [start("faults", Config(str(tmp_path), name=None)).path.name for _ in range(3)]
    assert names == ["2030-01-02-030405", "2030-01-02-030405-2", "2030-01-02-030405-3"]


# --- What is read in other threads ---------------------------------------------------------


class UnforeseenError(Exception):
    """Nothing that this project knows."""


@pytest.mark.parametrize("error", [UnforeseenError, MemoryError, SystemExit])
def test_what_goes_wrong_where_batches_are_made_is_raised_as_it_is(tmp_path, error):
    """Where the batch was due, which nothing waits for in vain; the last checkpoint is kept."""

    def take(step):
        if step == broken:
            raise error(f"at step {step}")
        return Batch(IMAGES[step % 2 :: 2], IMAGES[step % 2 :: 2])

    broken = None
    wanted = run(tmp_path / "whole", images=Source(take, epoch=2))
    broken = 5
    with pytest.raises(error, match="at step 5"):
        run(tmp_path / "broken", images=Source(take, epoch=2))
    assert checkpoint.latest_step(tmp_path / "broken/faults/a/checkpoints/l2") == 4
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]
    broken = None
    equal(run(tmp_path / "broken", images=Source(take, epoch=2), resume=True), wanted)


def test_what_goes_wrong_where_pictures_are_read_is_raised_at_once():
    """Without reading the others first."""
    read = []

    def one(index):
        if index == 3:
            raise UnforeseenError("at 3")
        time.sleep(0.001)
        read.append(index)
        return IMAGES[0]

    with closing(read_ahead(one, [np.arange(2), np.arange(3, 2000)])) as parts:
        assert list(next(parts)) == [0, 1]
        with pytest.raises(UnforeseenError, match="at 3"):
            next(parts)
    assert len(read) < 1000
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


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


@pytest.mark.parametrize("moment", ["listed", "looked at"])
def test_a_picture_that_vanishes_before_it_is_read(cli, tmp_path, picture, monkeypatch, moment):
    """One line that names it; no run is begun."""
    for i in range(10):
        picture(f"data/{i}.png", seed=i, size=(16, 16))
    find = pj.images.find

    class Vanishing(type(tmp_path)):
        """A path whose file goes when it is looked at, or has gone."""

        def stat(self, **options):
            found = super().stat(**options) if moment == "looked at" else None
            super().unlink()
            return found or super().stat(**options)

    def find_one_that_goes(folder):
        return [Vanishing(path) if path.name == "3.png" else path for path in find(folder)]

    monkeypatch.setattr(pj.images, "find", find_one_that_goes)
    outcome = cli("glo", "--data", "data", "--size", "16", "--width", "0.0625", "--batch", "2",
                  "--distances", "l2", "--measures", "l2", "--neighbours", "l2",
                  "--feature-weights", "random", "--held-out", "0.3", "--name", "a")  # fmt: skip
    assert outcome.code == 2
    assert "3.png" in outcome.err
    assert re.search("no file|No such file", outcome.err)
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_picture_that_changes_before_it_is_read(tmp_path, picture, monkeypatch):
    """It is noticed then: the run could not be resumed, with either picture."""
    for i in range(10):
        picture(f"data/{i}.png", seed=i, size=(16, 16))
    read = pj.images.read

    def changed_meanwhile(path):
        if path.name == "3.png":
            path.write_bytes(path.read_bytes() + bytes(7))
        return read(path)

    monkeypatch.setattr(pj.images, "read", changed_meanwhile)
    folder = start("faults", Config(str(tmp_path / "runs")))
    with pytest.raises(pj.InputError, match=r"3\.png was changed while .* start again"):
        learned_and_held_out(
            str(tmp_path / "data"), size=16, count=100, held_out=0.3, seed=0, folder=folder
        )
    assert not (folder.path / "data.json").exists()


def test_a_picture_that_becomes_too_small_for_crops(picture):
    drawn = crops.Crops([picture("a.png", size=(12, 12))])
    picture("a.png", size=(12, 7))
    with pytest.raises(pj.InputError, match=r"a\.png was changed to one with sides below 8"):
        drawn.draw(8, np.random.default_rng(0))


def test_a_picture_that_vanishes_while_it_is_learned_from(tmp_path, picture, monkeypatch):
    """Put back, nothing of the run is lost."""
    monkeypatch.setattr(crops, "_KEPT_BYTES", 0)  # Read again whenever it is used.
    files = [picture(f"data/{i}.png", seed=i, size=(12, 12)) for i in range(2)]
    aside = tmp_path / "aside.png"

    def source():
        drawn = crops.Crops(files)

        def take(step):
            if step == 5 and going:
                for file in files:
                    file.replace(aside)
            rng = np.random.default_rng(step)
            images = np.stack([drawn.draw(8, rng) for _ in range(SCHEDULE.batch)])
            return Batch(images, images)

        return Source(take, epoch=2)

    going = False
    wanted = run(tmp_path / "whole", images=source())
    going = True
    message = (
        r"no file .*\.png; the checkpoint of step 4 is kept in .*; with that put right, go on "
        r"with: perceptual-jax faults .* --name a --resume"
    )
    with pytest.raises(pj.InputError, match=message):
        run(tmp_path / "broken", images=source())
    going = False
    for i, file in enumerate(files):
        picture(f"data/{file.name}", seed=i, size=(12, 12))
    equal(run(tmp_path / "broken", images=source(), resume=True), wanted)


def test_a_picture_that_vanishes_while_it_is_scored(cli, tmp_path, picture, monkeypatch):
    """What was scored is kept; with it put back, the run comes to what an unbroken one does."""
    monkeypatch.setattr(pairs, "_PART_IMAGES", 3)
    for i in range(9):
        picture(f"data/{i}.png", seed=i, size=(16, 16))
    rows = [f"{i}.png,{i + 1}.png,{i + 2}.png,1" for i in (0, 3, 6)]
    (tmp_path / "data" / "m.csv").write_text("\n".join(["ref,p0,p1,judge", *rows]))
    options = ("--data", "data/m.csv", "--distances", "l2", "ssim", "--size", "16")
    assert cli("two-afc", *options, "--name", "whole").code == 0
    save = pairs._save
    gone = tmp_path / "data" / "8.png"

    def save_and_lose(path, values):
        save(path, values)
        gone.unlink(missing_ok=True)

    with monkeypatch.context() as patch:
        patch.setattr(pairs, "_save", save_and_lose)
        outcome = cli("two-afc", *options, "--name", "broken")
    assert outcome.code == 2
    assert "8.png" in outcome.err
    assert outcome.err.count("\n") == 1
    whole, broken = (tmp_path / "runs" / "two-afc" / name for name in ("whole", "broken"))
    assert [*(broken / "distances").glob("*-*.npy")]
    picture("data/8.png", seed=8, size=(16, 16))
    assert cli("two-afc", "--name", "broken", "--resume").code == 0
    for file in ("distances/distances.npy", "results.json"):
        assert (broken / file).read_bytes() == (whole / file).read_bytes()


# --- Memory --------------------------------------------------------------------------------


def in_little_memory(gibibytes, *arguments, folder):
    """The command line in a process that may not have more memory."""
    script = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({gibibytes} << 30,) * 2)
from experiments.__main__ import main
sys.exit(main({[str(argument) for argument in arguments]!r}))
"""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("command", "options", "wanted"),
    [
        (  # Python's: a picture of 6 GB.
            "compare",
            ["a.png", "a.png", "--distances", "l2", "--size", "40000"],
            "compare ran out of memory: try a smaller --size\n",
        ),
        (  # XLA's: a layer of 131 GB.
            "glo",
            ["--images", "40", "--size", "16", "--code", "1000000", "--width", "16", "--batch", "8",
             "--distances", "l2", "--measures", "l2", "--neighbours", "l2",
             "--feature-weights", "random"],
            "glo ran out of memory (Out of memory allocating 131072000000 bytes): try more "
            "--microbatches; or a smaller --memory, --batch, --size or --width; what a run has "
            "saved is kept, to go on from by --resume with more memory\n",
        ),
    ],
)  # fmt: skip
def test_memory_that_runs_out(tmp_path, picture, command, options, wanted):
    picture("a.png")
    outcome = in_little_memory(6, command, *options, folder=tmp_path)
    assert outcome.returncode == 2, outcome.stderr
    assert outcome.stderr == f"perceptual-jax: error: {wanted}"


def test_the_options_that_need_less_memory_are_the_commands_own():
    """Each command that works on pictures has one, or says what else to do; with its own names."""
    for command, (module, _) in COMMANDS.items():
        config = importlib.import_module(module).PRESETS["default"]
        message = program._out_of_memory(command, config, MemoryError())
        flags = re.findall("--([a-z-]+)", message)
        fields = {field.name.replace("_", "-") for field in dataclasses.fields(config)}
        assert set(flags) <= fields
        assert (set(flags) - {"resume"} == set()) == (
            command in ("fill", "report", "list", "weights")
        )


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (FULL, False),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in space hbm"), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Received message larger than max"), False),
        (jax.errors.JaxRuntimeError("INTERNAL: Failed to allocate a thread"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, wanted):
    assert program._is_of_memory(error) == wanted
