"""Commands that several processes share: the results of one; and what happens if one is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.common import checkpoint

pytestmark = pytest.mark.multiprocess

COMMANDS = {
    "two-afc": "--per-distortion 3 --distances l2 ssim patch-rbf",
    "image-mean": "--distances l2 patch-rbf --sets 3 --size 32 --steps 6 --snapshot-every 3",
    "glo": "--distances l2 --measures l2 --neighbours l2 --feature-weights random --images 40 "
    "--held-out 0.3 --size 16 --code 6 --width 0.0625 --batch 8 --warm-up 1 --epochs 5 "
    "--snapshot-every 4 --samples 9 --samplers normal --held-out-steps 2",
}
DEVICES = 2
"""Of each process."""


@pytest.fixture
def start(tmp_path):
    """`start(command, name, processes, *more)`: its processes, one of them by itself if 1."""
    running = []

    def begin(command, name, processes, *more, resume=False):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            **os.environ,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        }
        begun = []
        for process in range(processes):
            options = "--resume" if resume else COMMANDS[command]
            options = f"{options} --out {tmp_path} --name {name}".split()
            if processes > 1:
                options += ["--distributed", "--coordinator", f"127.0.0.1:{port}"]
                options += ["--process-count", str(processes), "--process-id", str(process)]
            begun.append(
                subprocess.Popen(
                    [sys.executable, "-m", "experiments", command, *options, *more],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        running.extend(begun)
        return begun

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def finished(processes):
    """What each printed on stderr; all must have ended well."""
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), errors
    return errors


def close(one, other):
    """Whether two JSON values hold the same, numbers to 1e-4."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            close(*pair)
    elif isinstance(one, float):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    else:
        assert one == other


def results(folder):
    return json.loads((folder / "results.json").read_text())


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_processes_find_what_one_finds(start, tmp_path, command):
    """Two, and for one command four: 2 devices each. Only the first one writes."""
    finished(start(command, "one", 1))
    folder = tmp_path / command
    for processes in (2, 4) if command == "two-afc" else (2,):
        name = f"of-{processes}"
        finished(start(command, name, processes))
        close(results(folder / name), results(folder / "one"))
        assert {path.name for path in (folder / name).iterdir()} == {
            path.name for path in (folder / "one").iterdir()
        }
        if command != "two-afc":
            close(metrics(folder / name), metrics(folder / "one"))


@pytest.mark.parametrize("lost", [0, 1])
def test_if_one_is_lost_the_others_stop_and_fewer_go_on(start, tmp_path, lost):
    """The first of two, the second of four: within a minute; one process finishes the run."""
    processes = start("glo", "a", 4 if lost else 2, "--epochs", "5000")
    folder = tmp_path / "glo" / "a"
    deadline = time.monotonic() + 240
    while not (folder / "checkpoints" / "l2").is_dir() or len(metrics(folder)) < 3:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    processes[lost].kill()
    since = time.monotonic()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert time.monotonic() - since < 60
    assert all(process.returncode != 0 for process in processes)
    left = [error for place, error in enumerate(errors) if place != lost]
    for error in left:
        assert f"--out {tmp_path} --name a --resume --distributed" in error, error
    kept = checkpoint.latest_step(folder / "checkpoints" / "l2")
    config = json.loads((folder / "config.json").read_text())
    config["config"]["epochs"] = -(-(kept + 8) // 4)
    (folder / "config.json").write_text(json.dumps(config))
    finished(start("glo", "a", 1, resume=True))
    steps = [line["step"] for line in metrics(folder) if line["distance"] == "l2"]
    assert steps[:3] == [4, 8, 12]
    assert metrics(folder)[-1]["step"] > kept


def test_where_one_is_asked_to_stop_all_do(start, tmp_path):
    """At the same step, and saved."""
    processes = start("glo", "a", 2, "--epochs", "5000")
    folder = tmp_path / "glo" / "a"
    deadline = time.monotonic() + 240
    while not folder.is_dir() or len(metrics(folder) if any(folder.glob("*.jsonl")) else []) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [130, 130], errors
    said = [next(line for line in error.splitlines() if "stopped at" in line) for error in errors]
    assert said[0] == said[1]
    assert "--name a --resume" in said[0]
    step = metrics(folder)[-1]["step"]
    assert f"stopped at step {step} of" in said[0]
    assert (folder / "checkpoints" / "l2" / str(step)).is_dir()
