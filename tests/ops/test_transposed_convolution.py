"""Transposed convolution in all its forms against PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from perceptual_jax.ops import transposed_convolution
from perceptual_jax.ops.transposed_convolution import conv_transpose2d

PLACES = {"one CPU": (True, 1), "CPUs": (True, 8), "accelerator": (False, 1)}
"""`{name: (on CPU, devices)}`: each has a form of its own."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [((2, 5, 6, 8), 3), ((12, 12, 20, 8), 64)],
    ids=["small", "several images at a time"],
)
def test_value_and_gradients_are_pytorchs(monkeypatch, place, shape, outputs):
    on_cpu, devices = PLACES[place]
    monkeypatch.setattr(transposed_convolution, "on_cpu", lambda: on_cpu)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    n, height, width, channels = shape
    rng = np.random.default_rng(0)
    images, kernel, bias, slopes = (
        rng.standard_normal(shape, dtype=np.float32)
        for shape in (
            shape,
            (4, 4, channels, outputs),
            (outputs,),
            (n, 2 * height, 2 * width, outputs),
        )
    )
    value, pullback = jax.vjp(conv_transpose2d, *map(jnp.asarray, (images, kernel, bias)))
    got = (value, *pullback(jnp.asarray(slopes)))

    inputs = [
        torch.tensor(images).permute(0, 3, 1, 2).requires_grad_(),
        torch.tensor(kernel).permute(2, 3, 0, 1).requires_grad_(),
        torch.tensor(bias).requires_grad_(),
    ]
    output = torch.nn.functional.conv_transpose2d(*inputs, stride=2, padding=1)
    of_inputs = torch.autograd.grad(output, inputs, torch.tensor(slopes).permute(0, 3, 1, 2))
    wanted = (
        output.detach().permute(0, 2, 3, 1),
        of_inputs[0].permute(0, 2, 3, 1),
        of_inputs[1].permute(2, 3, 0, 1),
        of_inputs[2],
    )
    for g, w in zip(got, (each.numpy() for each in wanted), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5 * np.abs(w).max())


def test_a_few_images_at_a_time_is_another_program(monkeypatch):
    images, kernel = jnp.zeros((12, 12, 20, 8)), jnp.zeros((4, 4, 8, 64))
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert "scan" in str(jax.make_jaxpr(conv_transpose2d)(images, kernel))
