"""Values and gradients of independent PyTorch implementations, in float64 (see README.md here)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from perceptual_jax.distance import Distance

GOLDENS = np.load(Path(__file__).parent / "pairs64.npz")
SIGNED = (-1.0, 1.0)
VGG_DEFAULT = "layers=('pixels','conv1_2','conv2_2','conv3_3','conv4_3','conv5_3')"
ALEX_CONVOLUTIONS = "layers=('conv1','conv2','conv3','conv4','conv5')"


def additive_kernel() -> np.ndarray:
    """The kernel of the work reimplemented: a sum, where a Gaussian is a product."""
    squares = np.square(np.arange(5) - 2.0)
    kernel = np.exp(-squares / 4)[:, None] + np.exp(-squares / 4)[None, :]
    return kernel / kernel.sum()


def on_laplacian(weights) -> Distance:
    l1 = pj.make("l1", value_range=SIGNED)
    return pj.on_laplacian_pyramid(
        l1, 3, weights, kernel=additive_kernel(), value_range=SIGNED
    )


def vgg(layers: str, metric: str) -> str:
    return f"vgg16(preprocess='signed', {layers}, metric={metric!r})"


# Golden name -> (spec or distance, factor that makes ours theirs).
CASES = {
    "l1": ("l1", 1),
    "l2": ("l2", 1),
    "gradient_rgb": ("gradient", 1),
    "gradient_gray": ("gradient(gray=True)", 1),
    "laplacian_l1_mode0": (on_laplacian([4**j for j in range(4)]), 1),
    "laplacian_l1_mode1": (on_laplacian([4.0**-j for j in range(4)]), 1),
    "laplacian_l1_mode2": (on_laplacian([4.0 ** (3 - j) for j in range(4)]), 1),
    "laplacian_l1_mode3": (on_laplacian(None), 1),
    "pyramid_gradient_rgb": (
        pj.on_gaussian_pyramid(
            pj.make("gradient", value_range=SIGNED), 3, [0.1, 0.3, 1.0], value_range=SIGNED
        ),
        1,
    ),
    "ssim_loss_w11": ("ssim", 0.5),
    "vgg16_default_l1": (vgg(VGG_DEFAULT, "l1"), 1),
    "vgg16_default_l2": (vgg(VGG_DEFAULT, "l2"), 1),
    "vgg16_default_gram": (vgg(VGG_DEFAULT, "gram"), 1),
    "vgg16_default_gram_trace": (vgg(VGG_DEFAULT, "gram-trace"), 1),
    **{
        f"vgg16_{layer}_l2": (vgg(f"layers=({layer!r},)", "l2"), 1)
        for layer in (
            "conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "relu2_2", "relu3_3"
        )
    },
    "alexnet_conv1to5_l2": (
        f"alexnet(preprocess='signed', {ALEX_CONVOLUTIONS}, metric='l2')",
        5,  # theirs is the sum over the five layers, ours their mean
    ),
    **{
        f"lpips_{net}_{golden}": (f"lpips-{net}({options})", 1)
        for net in ("alex", "vgg")
        for golden, options in (
            ("v0.1", ""), ("v0.0", "version='0.0'"), ("baseline", "heads=False")
        )
    },
}  # fmt: skip


def made(spec: str | Distance) -> Distance:
    return spec if isinstance(spec, Distance) else pj.make(spec, value_range=SIGNED)


def images(dtype):
    return [jnp.asarray(GOLDENS[name] / 127.5 - 1, dtype) for name in ("x", "y")]


@pytest.mark.parametrize("golden", CASES)
def test_value_float32(golden, weights_store):
    """Float32 values: 1e-5 relative."""
    spec, factor = CASES[golden]
    distance = made(spec)
    params = distance.init(jax.random.key(0))
    got = jax.jit(distance.__call__)(params, *images(jnp.float32))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got * factor, GOLDENS[golden], rtol=1e-5)


@pytest.mark.parametrize("golden", CASES)
def test_gradient_float64(golden, weights_store):
    """Float64 values and gradients with respect to x: 1e-6 relative."""
    spec, factor = CASES[golden]
    with jax.enable_x64(True):
        distance = made(spec)
        params = distance.init(jax.random.key(0))
        x, y = images(jnp.float64)

        @jax.jit
        def value_and_gradient(params, x, y):
            values, pullback = jax.vjp(lambda x: factor * distance(params, x, y), x)
            return values, pullback(jnp.ones_like(values))[0]

        values, gradient = value_and_gradient(params, x, y)
        assert values.dtype == gradient.dtype == jnp.float64
        norm = np.sqrt(np.square(gradient).sum(axis=(1, 2, 3)))
        probe = (np.asarray(gradient) * GOLDENS["probe"]).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(values, GOLDENS[golden], rtol=1e-6)
    np.testing.assert_allclose(norm, GOLDENS[f"{golden}/grad_norm"], rtol=1e-6)
    scale = np.abs(GOLDENS[f"{golden}/grad_norm"])
    np.testing.assert_allclose(probe, GOLDENS[f"{golden}/grad_probe"], rtol=1e-6, atol=1e-6 * scale.max())


def test_ssim_index():
    """The golden's index is 1 - ours, its gradient the opposite."""
    x, y = images(jnp.float32)
    got = 1 - made("ssim")({}, x, y)
    np.testing.assert_allclose(got, GOLDENS["ssim_index"], rtol=1e-5)
