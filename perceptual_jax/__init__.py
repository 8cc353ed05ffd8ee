"""Perceptual distances for JAX: every distance is an embedding and a comparison.

>>> import jax, perceptual_jax as pj
>>> ssim = pj.make("ssim")
>>> params = ssim.init(jax.random.key(0))
>>> x = jax.random.uniform(jax.random.key(1), (4, 32, 32, 3))
>>> ssim(params, x, x).shape  # one number per pair
(4,)
"""

from perceptual_jax import images, statistics, weights
from perceptual_jax.catalogue import make, names, register
from perceptual_jax.combinators import (
    on_gaussian_pyramid,
    on_laplacian_pyramid,
    on_resized,
    on_windows,
)
from perceptual_jax.distance import Distance, pairwise, weighted_sum
from perceptual_jax.distances.pixel import total_variation
from perceptual_jax.errors import InputError
from perceptual_jax.images import check_images
from perceptual_jax.tiles import tiled

__all__ = [
    "Distance",
    "InputError",
    "check_images",
    "images",
    "make",
    "names",
    "on_gaussian_pyramid",
    "on_laplacian_pyramid",
    "on_resized",
    "on_windows",
    "pairwise",
    "register",
    "statistics",
    "tiled",
    "total_variation",
    "weighted_sum",
    "weights",
]

__version__ = "0.1.0"
