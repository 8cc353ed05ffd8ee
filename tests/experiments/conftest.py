"""The command line as a user meets it, in this process."""

import shutil
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


@pytest.fixture(scope="session")
def chromium():
    """A real browser without a window, whose console and requests are kept."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update",
        "--disable-dev-shm-usage",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def browse(chromium):
    """`browse(path, width=1300, dark=False, fragment="")` opens a file and returns the driver."""
    from selenium.webdriver.support.ui import WebDriverWait

    def open_page(path, *, width: int = 1300, dark: bool = False, fragment: str = ""):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        chromium.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": width < 500})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chromium.get("about:blank")  # So that another fragment alone is a new page, too.
        chromium.get(path.resolve().as_uri() + fragment)
        # On a busy machine the driver may be ahead of the page.
        loaded = "return location.protocol == 'file:' && document.readyState == 'complete'"
        WebDriverWait(chromium, 30).until(lambda driver: driver.execute_script(loaded))
        return chromium

    return open_page
