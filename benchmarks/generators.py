"""A step of GLO: a code per image and the generator's weights descend together.

The generator is DCGAN's: a code of 512 numbers to 4x4x1024, then five transposed convolutions that
double the sides, down to 3 channels, with batch normalisation and ReLU between them and tanh at the
end. The loss is l2.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from benchmarks.timing import Peers, Row, Work
from experiments.common.batch_normalisation import normalise
from perceptual_jax._typing import Array, Params
from perceptual_jax.ops.transposed_convolution import conv_transpose2d

__all__ = ["ROWS", "glo", "glo_in_torch"]

_BATCH, _CODE, _CHANNELS = 64, 512, (1024, 512, 256, 128, 64, 3)
_CODE_RATE, _WEIGHT_RATE, _BETAS = 1e-2, 1e-3, (0.5, 0.999)


def _start(count: int) -> tuple[Params, np.ndarray]:
    """Codes and weights, and the images they are to become, in [-1, 1]; for every way the same."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, deviation: float) -> np.ndarray:
        return deviation * rng.standard_normal(shape, dtype=np.float32)

    def scaled(channels: int) -> dict[str, np.ndarray]:
        return {
            "scale": np.ones(channels, np.float32),
            "shift": np.zeros(channels, np.float32),
        }

    layers = [
        {"kernel": normal(4, 4, inputs, outputs, deviation=0.02)} | scaled(outputs)
        for inputs, outputs in pairwise(_CHANNELS)
    ]
    first = {"kernel": normal(_CODE, 16 * _CHANNELS[0], deviation=0.02)} | scaled(_CHANNELS[0])
    start = {
        "codes": normal(count, _CODE, deviation=0.01),
        "weights": {"first": first, "layers": layers},
    }
    side = 4 * 2 ** len(layers)
    return start, 2 * rng.random((count, side, side, 3), dtype=np.float32) - 1


# --- Ours ----------------------------------------------------------------------------------


def _generate(codes: Array, weights: Params) -> Array:
    first, layers = weights["first"], weights["layers"]
    images = jnp.matmul(codes, first["kernel"]).reshape(-1, 4, 4, _CHANNELS[0])
    images, _, _ = normalise(images, first["scale"], first["shift"], 0.0)
    for layer in layers[:-1]:
        images = conv_transpose2d(images, layer["kernel"])
        images, _, _ = normalise(images, layer["scale"], layer["shift"], 0.0)
    return jnp.tanh(conv_transpose2d(images, layers[-1]["kernel"], layers[-1]["shift"]))


def glo(count: int = _BATCH) -> Work:
    """Ours; the call returns the codes after one more step."""
    import optax

    distance = pj.make("l2", value_range=(-1, 1))
    start, targets = jax.device_put(_start(count))
    rates = {"codes": _CODE_RATE, "weights": _WEIGHT_RATE}
    optimiser = optax.partition(
        {name: optax.adam(rate, *_BETAS) for name, rate in rates.items()},
        {name: name for name in rates},
    )
    state = (start, optimiser.init(start))

    def loss(variables: Params, targets: Array) -> Array:
        generated = _generate(variables["codes"], variables["weights"])
        return distance({}, generated, targets).mean()

    @partial(jax.jit, donate_argnums=0)
    def advance(state: tuple, targets: Array) -> tuple:
        variables, optimiser_state = state
        gradient = jax.grad(loss)(variables, targets)
        updates, optimiser_state = optimiser.update(gradient, optimiser_state)
        return optax.apply_updates(variables, updates), optimiser_state

    def step() -> Array:
        nonlocal state
        state = jax.block_until_ready(advance(state, targets))
        return state[0]["codes"]

    return Work(step)


# --- PyTorch -------------------------------------------------------------------------------


def glo_in_torch(count: int = _BATCH, *, channels_last: bool = False) -> Work | None:
    """Theirs; None without PyTorch."""
    if find_spec("torch") is None:
        return None
    import torch
    from torch import nn

    from benchmarks import torch_forms

    torch_forms.use_all_cores()
    start, targets = _start(count)
    generator = _generator_in_torch(start["weights"])
    layout = torch.channels_last if channels_last else torch.contiguous_format
    generator = generator.to(memory_format=layout)
    targets = torch_forms.tensor(targets).contiguous(memory_format=layout)
    codes = nn.Parameter(torch.tensor(start["codes"]))
    optimiser = torch.optim.Adam(
        [
            {"params": [codes], "lr": _CODE_RATE},
            {"params": generator.parameters(), "lr": _WEIGHT_RATE},
        ],
        betas=_BETAS,
    )

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        nn.functional.mse_loss(generator(codes), targets).backward()
        optimiser.step()
        return codes.detach()

    return Work(step)


def _generator_in_torch(weights: Params):
    import torch
    from torch import nn

    def normalised(channels: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(channels, track_running_stats=False), nn.ReLU(inplace=True)]

    first = nn.Linear(_CODE, 16 * _CHANNELS[0], bias=False)
    kernel = weights["first"]["kernel"].reshape(_CODE, 16, _CHANNELS[0])
    kernels = [kernel.transpose(2, 1, 0).reshape(first.weight.shape)]
    modules = [first, nn.Unflatten(1, (_CHANNELS[0], 4, 4)), *normalised(_CHANNELS[0])]
    for layer in weights["layers"]:
        inputs, outputs = layer["kernel"].shape[2:]
        last = outputs == 3
        modules.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=last))
        modules += [nn.Tanh()] if last else normalised(outputs)
        kernels.append(layer["kernel"].transpose(2, 3, 0, 1))
    nn.init.zeros_(modules[-2].bias)
    weighted = [part for part in modules if isinstance(part, nn.Linear | nn.ConvTranspose2d)]
    with torch.no_grad():
        for part, values in zip(weighted, kernels, strict=True):
            part.weight.copy_(torch.tensor(values.copy()))
    return nn.Sequential(*modules)


ROWS = {
    f"glo dcgan {4 * 2 ** (len(_CHANNELS) - 1)} px batch {_BATCH}": Row(
        glo,
        {
            "PyTorch": Peers(
                {
                    "PyTorch": glo_in_torch,
                    "PyTorch, channels last": partial(glo_in_torch, channels_last=True),
                },
                budget=1.0,
            )
        },
    )
}
