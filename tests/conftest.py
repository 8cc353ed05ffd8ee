"""What all tests share: eight fake devices, strict JAX, checked shapes, a weight store."""

import os
import socket
import sys
import tempfile

# Before anything else: no test reaches beyond this machine.
_ASKS = ("socket.connect", "socket.sendto", "socket.sendmsg")
_LOOKS_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex")


class ReachedOutError(BaseException):
    """A test wants the network; not an `Exception`, so that no code under test takes it for one."""


def _stay_here(event, arguments):
    if event in _ASKS and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event in _LOOKS_UP:
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    here = (None, "", "localhost", "::1", socket.gethostname())
    if host not in here and not str(host).startswith("127."):
        raise ReachedOutError(f"{event}: {host} is not this machine")


sys.addaudithook(_stay_here)

# Before JAX starts: the distributed tests need several devices.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import jax
import jaxtyping
import pytest
from jax.experimental.compilation_cache import compilation_cache

# Shapes in the annotations of the library's inner functions hold, or the call fails. Modules that
# users call directly answer for their arguments themselves.
_INNER = (
    "convolution",
    "copies",
    "cosine",
    "filters",
    "pooling",
    "pyramids",
    "random_features",
    "safe",
    "sorting",
    "windows",
)
_CHECKED = ["perceptual_jax.backbones", *(f"perceptual_jax.ops.{module}" for module in _INNER)]
jaxtyping.install_import_hook(_CHECKED, "beartype.beartype")

import hypothesis

import conversion
from perceptual_jax import weights

# The same examples every time: a failure that nobody caused is one that nobody can repeat.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def programs_on_disk():
    """Keeps what is compiled in a folder that goes with this process.

    A run and its resumption, or the operations of a network one by one, are the same programs in
    many tests, and memory forgets them between tests. Two processes do not share a folder: one
    might read what the other has not written to the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        compilation_cache.reset_cache()  # Modules may have compiled while they were collected.
        yield


@pytest.fixture(scope="session")
def weights_store(tmp_path_factory):
    """The pretrained weights, converted once from the installed package into a fresh store."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get(weights.CACHE_VARIABLE)
    os.environ[weights.CACHE_VARIABLE] = str(folder)
    for name in ("vgg16", "alexnet"):
        conversion.get(name)
    yield folder
    if before is None:
        del os.environ[weights.CACHE_VARIABLE]
    else:
        os.environ[weights.CACHE_VARIABLE] = before
