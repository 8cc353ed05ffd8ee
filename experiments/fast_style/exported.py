"""A trained network as a program that JAX alone can load and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from experiments.common.generators import Network
from perceptual_jax._files import write_whole

__all__ = ["write_program"]

_PLATFORMS = ("cpu", "cuda", "tpu")


def write_program(path: Path, made_by: Network, params: Any, size: int) -> None:
    """Writes the network, its weights inside, for one image of a size.

    It is a function of float32 [1, size, size, 3] in [0, 1] to the same, for CPU, GPU and TPU:

        jax.export.deserialize(bytearray(open(path, "rb").read())).call(image)

    Args:
      path: of the file.
      made_by: the network.
      params: what was trained.
      size: of the square images, in pixels; a multiple of 4.
    """
    params = jax.tree.map(jnp.asarray, params)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    program = export.export(
        jax.jit(lambda image: made_by.use(params, {}, image)), platforms=_PLATFORMS
    )(image)
    write_whole(path, bytes(program.serialize()))
