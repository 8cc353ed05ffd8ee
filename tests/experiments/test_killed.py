"""Runs whose processes are killed at any moment, or that are started twice."""

import re
import signal
import subprocess
import time

import numpy as np
import pytest
from own_processes import GLO, TWO_AFC, finished, left_by, lines, started

pytestmark = pytest.mark.multiprocess


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
