"""A variational autoencoder of views of photographs, trained with an LPIPS term.

python examples/vae_with_lpips.py --steps 400 --out vae.png
python examples/vae_with_lpips.py --lpips 0          # pixels alone: blurrier

The picture has views that were not learned from in its first row, what their codes make of them in
the second, and in the third what lies between the codes of the third and the sixth. Needs
`pip install ".[experiments,pretrained]"` and `perceptual-jax weights get`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from skimage import data

import perceptual_jax as pj

SIDE, CODE, BATCH = 32, 64, 16
PHOTOGRAPHS = [data.astronaut(), data.chelsea()[:, -300:], data.coffee()[:, -400:]]


def encoder():
    layers = [(nn.Conv(width, (3, 3), strides=2), nn.gelu) for width in (32, 64, 128)]
    return nn.Sequential([*sum(layers, ()), lambda x: x.reshape(len(x), -1), nn.Dense(2 * CODE)])


def decoder():
    def enlarge(x):
        return x.repeat(2, axis=1).repeat(2, axis=2)

    first = nn.Dense(4 * 4 * 128), nn.gelu, lambda x: x.reshape(-1, 4, 4, 128)
    layers = [(enlarge, nn.Conv(width, (3, 3)), nn.gelu) for width in (128, 64, 32)]
    return nn.Sequential([*first, *sum(layers, ()), nn.Conv(3, (3, 3)), nn.sigmoid])


def views(rng, count):
    """Random squares of three photographs, resized: [count, 32, 32, 3] in [0, 1]."""
    pictures, found = [pj.images.resize(picture, 128) for picture in PHOTOGRAPHS], []
    for number in range(count):
        picture, side = pictures[number % 3], rng.integers(80, 128)
        top, left = rng.integers(129 - side, size=2)
        found.append(pj.images.resize(picture[top : top + side, left : left + side], SIDE))
    return np.stack(found).astype(np.float32) / 255


def main(steps: int = 400, lpips: float = 0.1, out: str = "vae.png"):
    """Trains for so many steps under l1 + lpips * LPIPS + divergence, and draws what came of it."""
    distance = pj.weighted_sum({"l1": (1, pj.make("l1")), "lpips": (lpips, pj.make("lpips-alex"))})
    fixed = distance.init(jax.random.key(0))  # the weights of LPIPS: an argument, never trained
    rng, key = np.random.default_rng(0), jax.random.key(1)
    images = views(rng, 500)
    model = (encoder().init(key, images[:1]), decoder().init(key, jnp.zeros((1, CODE))))
    optimiser = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    state = optimiser.init(model)

    @jax.jit
    def step(model, state, fixed, images, key):
        def loss(model):
            mean, log_variance = jnp.split(encoder().apply(model[0], images), 2, axis=-1)
            codes = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
            terms = distance.terms(fixed, decoder().apply(model[1], codes), images)
            terms["divergence"] = 0.01 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance)
            terms = {name: term.mean() for name, term in terms.items()}
            return sum(terms.values()), terms

        (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(model)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(model, updates), state, terms

    for number in range(steps):
        batch = images[rng.integers(len(images), size=BATCH)]
        model, state, terms = step(model, state, fixed, batch, jax.random.fold_in(key, number))
        if number % 50 == 0 or number == steps - 1:
            print(number, {name: round(float(term), 4) for name, term in terms.items()}, flush=True)

    new = views(rng, 9)
    mean = encoder().apply(model[0], new)[:, :CODE]
    between = jnp.linspace(mean[2], mean[5], 9)
    rows = [new, *(decoder().apply(model[1], codes) for codes in (mean, between))]
    large = [[np.kron(image, np.ones((3, 3, 1))) for image in np.asarray(row)] for row in rows]
    pj.images.write(out, pj.images.grid(large))
    print(f"wrote {out}")
    return {name: float(term) for name, term in terms.items()}


if __name__ == "__main__":
    tyro.cli(main)
