"""The command line as a user meets it, in this process."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

import perceptual_jax as pj
from experiments.__main__ import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def standard_promotion():
    """Optax relies on implicit promotion; the library itself is tested without."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def many_devices():
    """Asked for by tests that need them, in modules that use `one_device`."""


@pytest.fixture
def one_device(request, monkeypatch):
    """Programs for eight would be compiled for nothing."""
    if "many_devices" not in request.fixturenames:
        monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.fixture
def cli(weights_store, tmp_path, monkeypatch, capsys):
    """`cli("compare", "a.png", ...)` in a fresh folder -> exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    cache_before = jax.config.jax_compilation_cache_dir

    def call(*arguments) -> Outcome:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # tyro's own way to refuse arguments
            code = stop.code
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    yield call
    jax.config.update("jax_compilation_cache_dir", cache_before)


@pytest.fixture
def picture(tmp_path):
    """`picture("a.png", seed=0, size=(64, 64))` writes a random picture and returns its path."""

    def write(name: str, *, seed: int = 0, size: tuple[int, int] = (64, 64)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pj.images.write(path, np.random.default_rng(seed).random((*size, 3)))
        return path

    return write
