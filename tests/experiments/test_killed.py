"""Runs whose processes are killed at any moment, or that go on with other devices."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from perceptual_jax import weights

pytestmark = pytest.mark.multiprocess


class Command(NamedTuple):
    """A command that a process runs, of a few seconds' work.

    Attributes:
      arguments: its name and options.
      devices: of its process.
      leaves: patterns of the files that must be those of an unbroken run.
      done: of those that say how far it came.
      kills: how often it is killed, anywhere in the lives of its processes.
      first: is executed before it.
    """

    arguments: str
    devices: int
    leaves: tuple[str, ...]
    done: str
    kills: int
    first: str = ""


GLO = Command(
    "glo --distances l2 --measures l2 --neighbours l2 --feature-weights random --images 40 "
    "--held-out 0.3 --size 16 --code 6 --width 0.0625 --batch 8 --warm-up 2 --epochs 10 "
    "--snapshot-every 2 --samples 9 --samplers normal --held-out-steps 2",
    1,
    ("**/*.png", "results.json", "data.json"),
    "*-step-*.png",
    10,
)
TWO_AFC = Command(
    "two-afc --distances l2 ssim --per-distortion 3 --size 32",
    2,
    ("distances/*", "*.png", "results.*"),
    "distances/*.npy",
    40,
    "from experiments.common import pairs; pairs._PART_IMAGES = 6",
)


def started(top, command, name, *, devices=None, resume=False, more=()):
    """A process that runs a command in `top`, without a name if that is None."""
    arguments = command.arguments.split()
    arguments = [arguments[0], "--resume"] if resume else [*arguments, *more]
    arguments += ["--out", str(top), *(["--name", name] if name else [])]
    script = f"""{command.first}
import sys
from experiments.__main__ import main
sys.exit(main({arguments!r}))
"""
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices or command.devices}",
        weights.CACHE_VARIABLE: str(top / "cache"),  # Of compiled programs.
    }
    with (top / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdout=subprocess.DEVNULL, stderr=log
        )


def finished(top, command, name, **options):
    """Runs it to its end."""
    code = started(top, command, name, **options).wait(300)
    assert code == 0, (top / f"{name}.log").read_text()


def left_by(folder: Path, command):
    """What a run leaves, by name."""
    files = {path for pattern in command.leaves for path in folder.glob(pattern)}
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}


def lines(folder: Path):
    """What was logged."""
    path = folder / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


# --- Killed --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [GLO, TWO_AFC], ids=["glo", "two-afc"])
def test_killed_at_any_moment_and_resumed(tmp_path, command):
    """SIGKILL, and now and then SIGTERM; then all of an unbroken run, byte for byte.

    Moments are anywhere in the life of a process: while Python starts, before there is a folder,
    while it is made, at work, while it saves, writes its pictures and its report. What comes to its
    end in spite of all is compared, and another run begun.
    """
    finished(tmp_path, command, "whole")
    begun = time.monotonic()
    finished(tmp_path, command, "again")  # With nothing left to compile.
    life = time.monotonic() - begun
    top = tmp_path / command.arguments.split()[0]
    wanted = left_by(top / "whole", command)
    assert len(wanted) >= 5
    rng = np.random.default_rng(0)
    gained, stopped, turn, runs = [], 0, 0, 1

    def broken():
        return top / f"broken-{runs}"

    def check(folder):
        # Where it was asked to stop there are a line and a picture more.
        left = left_by(folder, command)
        assert [name for name in wanted if left.get(name) != wanted[name]] == []
        assert set(lines(top / "whole")) <= set(lines(folder))
        assert [*folder.rglob(".*.part")] == []

    check(top / "again")
    while len(gained) < command.kills:
        how = signal.SIGTERM if turn % 6 == 5 else signal.SIGKILL
        turn += 1
        before = len([*broken().glob(command.done)])
        running = started(tmp_path, command, broken().name, resume=broken().exists())
        try:
            code = running.wait(rng.uniform(0, life))
        except subprocess.TimeoutExpired:
            running.send_signal(how)
            code = running.wait(120)
        if code == 0:
            check(broken())
            runs += 1
        elif code == -signal.SIGKILL:
            gained.append(len([*broken().glob(command.done)]) - before)
        else:  # Before it could save anything, or after that.
            assert code in (-signal.SIGTERM, 130), (tmp_path / f"{broken().name}.log").read_text()
            assert how == signal.SIGTERM
            stopped += 1
    finished(tmp_path, command, broken().name, resume=broken().exists())
    check(broken())
    saved = sum(count > 0 for count in gained)
    print(
        f"{runs} runs: {command.kills} kills of processes of {life:.1f} s, {saved} of them after "
        f"something was saved; and {stopped} asked to stop"
    )
    assert 0 < saved < command.kills


# --- Two at once ---------------------------------------------------------------------------


def both(top, name, **options):
    """Two processes that are started at once: their exit codes, and what both said of errors."""
    log = top / f"{name}.log"
    said = len(log.read_text()) if log.exists() else 0
    processes = [started(top, GLO, name, **options) for _ in range(2)]
    codes = sorted(process.wait(300) for process in processes)
    return codes, log.read_text()[said:]


def test_two_runs_at_once(tmp_path):
    """Of one name, one is refused; without a name they take two."""
    codes, said = both(tmp_path, "a", more=["--epochs", "1"])
    assert codes == [0, 2], said
    error = f"the run {tmp_path}/glo/a exists: choose another --name, or --resume it"
    assert said == f"perceptual-jax: error: {error}\n"
    codes, said = both(tmp_path, None, more=["--epochs", "1"])
    assert codes == [0, 0], said
    assert len([*(tmp_path / "glo").iterdir()]) == 3
    assert len({path.read_bytes() for path in tmp_path.glob("glo/*/results.json")}) == 1


def test_one_run_resumed_twice_at_once(tmp_path):
    """One goes on to the end of an unbroken run; the other is told who does."""
    finished(tmp_path, GLO, "whole")
    whole, broken = (tmp_path / "glo" / name for name in ("whole", "broken"))
    with started(tmp_path, GLO, "broken") as running:
        while running.poll() is None and len(lines(broken)) < 3:
            time.sleep(0.005)
        running.kill()
    codes, said = both(tmp_path, "broken", resume=True)
    assert codes == [0, 2], said
    holder = r"process [0-9]+ on [^ ]+: wait until that is done or stop it, or start another run"
    error = rf"{re.escape(str(broken))} is in use by {holder} under another --name"
    assert re.fullmatch(rf"perceptual-jax: error: {error}\n", said), said
    assert left_by(broken, GLO) == left_by(whole, GLO)
    assert lines(broken) == lines(whole)


# --- Other devices -------------------------------------------------------------------------


def losses(folder):
    logged = map(json.loads, lines(folder))
    return {(line["distance"], line["step"]): line["loss"] for line in logged}


def stopped_on(top, devices):
    """A run that was asked to stop in the middle, and how far it had come."""
    name = f"stopped-on-{devices}"
    folder = top / "glo" / name
    with started(top, GLO, name, devices=devices) as running:
        while running.poll() is None and len(lines(folder)) < 5:
            time.sleep(0.005)
        running.send_signal(signal.SIGTERM)
        assert running.wait(120) != 0
    return folder, len(losses(folder))


@pytest.fixture(scope="module")
def on_eight(tmp_path_factory):
    """A whole run on eight devices, and others that were stopped on eight and on one."""
    top = tmp_path_factory.mktemp("devices")
    finished(top, GLO, "whole", devices=8)
    return top, {devices: stopped_on(top, devices) for devices in (8, 1)}


@pytest.mark.parametrize(("saved", "resumed"), [(8, 8), (8, 4), (8, 2), (8, 1), (1, 8)])
def test_saved_on_some_devices_and_resumed_on_others(on_eight, saved, resumed):
    """The losses are those of eight to the end, to 1e-4; of as many devices, bit for bit."""
    top, stopped = on_eight
    begun, before = stopped[saved]
    name = f"from-{saved}-on-{resumed}"
    shutil.copytree(begun, top / "glo" / name)
    finished(top, GLO, name, devices=resumed, resume=True)
    wanted, found = losses(top / "glo" / "whole"), losses(top / "glo" / name)
    assert before < len(wanted) <= len(found)
    if saved == resumed:
        assert wanted.items() <= found.items()
    for at, loss in wanted.items():
        assert found[at] == pytest.approx(loss, rel=1e-4)
