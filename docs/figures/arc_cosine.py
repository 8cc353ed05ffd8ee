"""Draws arc-cosine.png: the distance in a random ReLU layer tends to an MMD as it grows wider.

python -m docs.figures.arc_cosine
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

import perceptual_jax as pj
from experiments.common.data import embedded_picture

matplotlib.use("Agg")
from matplotlib import pyplot as plt

OUT = Path(__file__).parent / "arc-cosine.png"
PATCH, WINDOW, STRIDE = 3, 32, 16
WIDTHS = 2 ** np.arange(4, 12)
DRAWS = 100


@jax.jit
def in_a_layer(filters: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean over units and windows of the squared difference of the windows' mean activations."""

    def means(image: jax.Array) -> jax.Array:
        margin = PATCH // 2
        padded = jnp.pad(2 * image - 1, ((margin,) * 2, (margin,) * 2, (0, 0)), mode="reflect")
        layer = jax.nn.relu(
            jax.lax.conv_general_dilated(
                padded[None], filters, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        )
        sums = jax.lax.reduce_window(
            layer, 0.0, jax.lax.add, (1, WINDOW, WINDOW, 1), (1, STRIDE, STRIDE, 1), "VALID"
        )
        return sums / WINDOW**2

    return jnp.square(means(x) - means(y)).mean()


def main() -> None:
    """Draws filters of growing width and compares each with the exact distance."""
    x = pj.images.resize(embedded_picture("coffee"), 64).astype(np.float32) / 255
    y = pj.images.resize(embedded_picture("chelsea"), 64).astype(np.float32) / 255
    mmd = pj.make("mmd", kernel="arccos", patch_size=PATCH, window=WINDOW, stride=STRIDE)
    exact = float(mmd({}, x[None], y[None])[0])
    found = np.array(
        [
            [
                in_a_layer(jax.random.normal(key, (PATCH, PATCH, 3, int(width))), x, y)
                for key in jax.random.split(jax.random.key(width), DRAWS)
            ]
            for width in WIDTHS
        ]
    )
    errors = np.sqrt(np.square(found / exact - 1).mean(axis=1))
    figure, (values, convergence) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    values.plot(WIDTHS, found / exact, ".", color="tab:blue", alpha=0.5)
    values.axhline(1, color="black", linewidth=1)
    values.set(xscale="log", xlabel="width of the layer", ylabel="distance / arc-cosine MMD")
    values.set_title(f"{DRAWS} random layers of each width")
    convergence.loglog(WIDTHS, errors, "o-", label="root mean square error")
    slope = errors[0] * np.sqrt(WIDTHS[0] / WIDTHS)
    convergence.loglog(WIDTHS, slope, "--", color="black", label="1 / sqrt(width)")
    convergence.set(xlabel="width of the layer", ylabel="relative error")
    convergence.legend()
    figure.savefig(OUT, dpi=120)
    print(OUT, dict(zip(WIDTHS.tolist(), errors.round(4).tolist(), strict=True)))


if __name__ == "__main__":
    main()
