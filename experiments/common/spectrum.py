"""Images as Fourier coefficients, each of the size that it has in photographs.

Free pixels find noise that a network answers to and that nobody recognises. A step on coefficients
that are divided by their frequency, in colours that are uncorrelated in photographs, moves what is
large and what is small alike.

References:
  C. Olah, A. Mordvintsev, L. Schubert, "Feature Visualization", Distill 2017,
  https://distill.pub/2017/feature-visualization/
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from perceptual_jax._typing import Array, Key

__all__ = ["image_of", "noise_spectrum"]

# The principal square root of the covariance of ImageNet's colours, from the code of Olah et al.
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
_COLOURS /= np.linalg.norm(_COLOURS, axis=0).max()


def image_of(spectrum: Array, side: int) -> Array:
    """Images in [0, 1] from their coefficients [s, side, side // 2 + 1, 3, 2]."""
    down, across = np.fft.fftfreq(side), np.fft.rfftfreq(side)
    frequency = np.hypot(down[:, None], across[None])
    # The mean, of frequency 0, is moved as if its waves were four times as long as the image.
    scale = (side / np.maximum(frequency, 1 / (4 * side))).astype(np.float32)
    scaled = spectrum * scale[None, :, :, None, None]
    waves = jax.lax.complex(scaled[..., 0], scaled[..., 1])
    planes = jnp.fft.irfft2(waves, s=(side, side), axes=(1, 2)) / 4
    coloured = jnp.einsum("nhwc,dc->nhwd", planes, _COLOURS, precision="highest")
    return jax.nn.sigmoid(coloured)


def noise_spectrum(key: Key, count: int, side: int) -> Array:
    """Coefficients of nearly grey images: [count, side, side // 2 + 1, 3, 2]."""
    return 0.01 * jax.random.normal(key, (count, side, side // 2 + 1, 3, 2))
