"""Generators whose training is killed at any moment, or goes on with other devices."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.multiprocess

OPTIONS = {
    "images": 40,
    "held_out": 0.3,
    "size": 16,
    "code": 6,
    "width": 1 / 16,
    "batch": 8,
    "warm_up": 2,
    "epochs": 10,
    "snapshot_every": 2,
    "distances": ("l2",),
    "measures": ("l2",),
    "neighbours": ("l2",),
    "feature_weights": "random",
    "samples": 9,
    "samplers": ("normal",),
    "held_out_steps": 2,
}


@pytest.fixture
def process(tmp_path):
    """`process(name, *, devices, resume)`: a process that trains, as a command."""

    def start(name, *, devices=1, resume=False):
        own = {"out": str(tmp_path), "name": name, "resume": resume}
        script = f"from experiments.glo import Config, run; run(Config(**{OPTIONS | own!r}))"
        environment = {
            **os.environ,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return subprocess.Popen(
            [sys.executable, "-c", script],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return start


def lines(folder):
    """What was logged, of which the last line may be cut short."""
    path = folder / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def stopped_after(running, folder, snapshots, how, wait=0.0):
    """Sends a signal once so many snapshots were logged, and a moment later."""
    with running:
        while running.poll() is None and len(lines(folder)) < snapshots:
            time.sleep(0.005)
        time.sleep(wait)
        running.send_signal(how)
        return running.wait(120)


def final(folder):
    """What a run leaves: its pictures and numbers."""
    files = [*folder.rglob("*.png"), folder / "results.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_killed_ten_times_and_resumed(process, tmp_path):
    """SIGKILL and SIGTERM at random moments; then all of an unbroken run, byte for byte."""
    assert process("whole").wait(300) == 0
    whole, broken = (tmp_path / "glo" / name for name in ("whole", "broken"))
    total = len(lines(whole))
    rng = np.random.default_rng(0)
    died, stopped = 0, 0
    for turn in range(10):
        how = signal.SIGKILL if turn % 2 == 0 else signal.SIGTERM
        wanted = min(len(lines(broken)) + int(rng.integers(1, 3)), total)
        running = process("broken", resume=broken.exists())
        code = stopped_after(running, broken, wanted, how, rng.uniform(0, 0.05))
        died += code == -signal.SIGKILL
        stopped += code != 0 and how == signal.SIGTERM
    assert died >= 4
    assert stopped >= 3
    assert process("broken", resume=True).wait(300) == 0
    # Where it was asked to stop there are a line and a picture more.
    left, wanted = final(broken), final(whole)
    assert [name for name in wanted if left.get(name) != wanted[name]] == []
    assert set(lines(whole)) <= set(lines(broken))
    assert len(wanted) > 10


@pytest.mark.parametrize("devices", [2, 1])
def test_saved_on_eight_devices_and_resumed_on_fewer(process, tmp_path, devices):
    """The losses are those of eight to the end, to 1e-4."""
    assert process("whole", devices=8).wait(300) == 0
    folder = tmp_path / "glo" / "broken"
    code = stopped_after(process("broken", devices=8), folder, 5, signal.SIGTERM)
    assert code != 0
    before = len(lines(folder))
    assert process("broken", devices=devices, resume=True).wait(300) == 0
    losses = [
        {line["step"]: line["loss"] for line in map(json.loads, lines(tmp_path / "glo" / name))}
        for name in ("whole", "broken")
    ]
    assert before < len(losses[0])
    steps = list(losses[0])
    np.testing.assert_allclose(
        [losses[1][step] for step in steps], [losses[0][step] for step in steps], rtol=1e-4
    )
