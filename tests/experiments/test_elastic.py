"""Runs that are stopped on some devices and go on with others."""

import json
import shutil
import signal
import time

import pytest
from own_processes import GLO, finished, lines, started

pytestmark = pytest.mark.multiprocess


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
