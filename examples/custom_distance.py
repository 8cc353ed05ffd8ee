"""A distance of your own: how far apart the colours of two images are, light and dark aside.

python examples/custom_distance.py

An embedding and a comparison make it a `Distance`, and then everything works on it that works on
those of the catalogue: terms, maps, sums, pyramids, tiles, pairs, gradients. `pj.register` gives it
a name there.
"""

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj
from perceptual_jax.distance import Distance, distance_from_maps
from perceptual_jax.ops.filters import filter_separable, gaussian_kernel
from perceptual_jax.ops.safe import safe_abs
from perceptual_jax.ops.value_range import UNIT, mapper

OPPONENTS = np.array([[1, 0.5], [-1, 0.5], [0, -1]], np.float32)  # red - green, yellow - blue


def colour(*, size: int = 7, name: str = "colour", value_range=(0.0, 1.0)) -> Distance:
    """Mean absolute difference of blurred opponent colours.

    Args:
      size: the side of the Gaussian that blurs them, in pixels; odd.
      name: of the distance, for messages.
      value_range: (low, high) of float images.
    """
    prepare = mapper(name, value_range, UNIT, channels=3, min_size=(size, size))  # checks, maps
    kernel = gaussian_kernel(size, size / 4)

    def embed(params, images):
        del params  # It has none; those that do take an `init`.
        images = prepare(images)
        return filter_separable(images @ jnp.asarray(OPPONENTS, images.dtype), kernel)

    def maps(params, ex, ey):
        del params
        return {"colour": safe_abs(ex - ey).mean(axis=-1)}  # [n, h', w']; its mean is the term

    return distance_from_maps(name, embed, maps)


def main():
    pj.register("colour", colour, "l1 of blurred opponent colours")
    distance = pj.make("colour(size=7)")
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.random((2, 64, 64, 3)), jnp.float32)
    darker, redder = 0.5 + 0.5 * (x - 0.1), x.at[..., 0].add(0.1)

    print("a tint:        ", distance({}, x, redder))
    print("less contrast: ", distance({}, x, darker))
    print("where:         ", distance.map({}, x, redder).shape)
    print("gradient:      ", jnp.abs(jax.grad(lambda z: distance({}, z, x).sum())(redder)).max())

    loss = pj.weighted_sum({"ssim": (1.0, pj.make("ssim")), "colour": (0.5, distance)})
    print("in a sum:      ", loss.terms(loss.init(jax.random.key(0)), x, redder))
    print("on a pyramid:  ", pj.on_gaussian_pyramid(distance, 3)({}, x, redder))
    print("in tiles:      ", pj.tiled(distance, tile=16, margin=8)({}, x, redder))
    embedded = distance.embed({}, jnp.concatenate([x, redder]))
    print("all pairs:     ", pj.pairwise(distance, {}, embedded, embedded).shape)
    return distance


if __name__ == "__main__":
    main()
