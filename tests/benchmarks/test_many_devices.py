"""What crosses between devices: read off programs, and of a step compiled for 64 of them."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.many_devices import Collective, collectives


def test_collectives_are_read_off_a_program():
    program = """
      %a = f32[8,512]{1,0} all-reduce(f32[8,512]{1,0} %x), replica_groups={}
      %b = (f32[3]{0}, u8[2,2]{1,0}, f32[]) all-gather-start(%y, %z)
      %c = f32[8]{0} add(%a, %b)
    """
    assert collectives(program) == [
        Collective("all-reduce", ((8, 512),), 16384),
        Collective("all-gather", ((3,), (2, 2), ()), 20),
    ]


@pytest.mark.multiprocess
def test_neither_the_codes_nor_the_images_cross(tmp_path):
    """Ten million codes on 64 devices: what crosses is of the batch's codes and the network."""
    devices, codes, code, batch, size = 64, 10_000_000, 128, 512, 32
    options = {
        "devices": devices, "codes": codes, "code": code, "batch": batch, "size": size,
        "width": 0.125, "json": tmp_path / "found.json",
    }  # fmt: skip
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.many_devices", *arguments], env=environment, check=True
    )
    found = json.loads((tmp_path / "found.json").read_text())
    shapes = [tuple(shape) for each in found["collectives"] for shape in each["shapes"]]
    assert shapes, "nothing crosses: the step is not of many devices"
    assert max(shape[0] for shape in shapes if shape) <= max(batch, code)
    assert not [shape for shape in shapes if len(shape) > 2]
    # Each device has its share of the codes and of Adam's two means, and not much else.
    share = 3 * 4 * codes * code / devices
    assert share < found["arguments_bytes"] < 1.1 * share + 2**23
