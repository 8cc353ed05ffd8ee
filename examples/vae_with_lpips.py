"""A variational autoencoder of views of photographs, trained with an LPIPS term.

python examples/vae_with_lpips.py --steps 400 --out vae.png
python examples/vae_with_lpips.py --lpips 0          # pixels alone: blurrier

The picture has views that were not learned from in its first row, what their codes make of them in
the second, and in the third what lies between the codes of the third and the sixth. Needs
`pip install ".[experiments,pretrained]"` and `perceptual-jax weights get`.
"""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from skimage import data

import perceptual_jax as pj

SIDE, CODE, BATCH = 32, 64, 16


class Autoencoder(nn.Module):
    """[n, 32, 32, 3] to the mean and log variance of codes, and codes to images in (0, 1)."""

    def setup(self):
        self.down = [nn.Conv(width, (3, 3), strides=2) for width in (32, 64, 128)]
        self.code = nn.Dense(2 * CODE)
        self.first = nn.Dense(4 * 4 * 128)
        self.up = [nn.Conv(width, (3, 3)) for width in (128, 64, 32)]
        self.last = nn.Conv(3, (3, 3))

    def encode(self, images):
        for layer in self.down:
            images = nn.gelu(layer(images))
        return jnp.split(self.code(images.reshape(len(images), -1)), 2, axis=-1)

    def decode(self, codes):
        maps = nn.gelu(self.first(codes)).reshape(-1, 4, 4, 128)
        for layer in self.up:
            maps = nn.gelu(layer(maps.repeat(2, axis=1).repeat(2, axis=2)))
        return nn.sigmoid(self.last(maps))

    def __call__(self, images, key):
        mean, log_variance = self.encode(images)
        codes = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        return self.decode(codes), mean, log_variance


def views(rng, count):
    """Random squares of three photographs, resized: [count, 32, 32, 3] in [0, 1]."""
    pictures = [pj.images.resize(read()[:, -300:], 128) for read in (data.chelsea, data.coffee)]
    pictures.append(pj.images.resize(data.astronaut(), 128))
    found = []
    for number in range(count):
        side = rng.integers(80, 128)
        top, left = rng.integers(129 - side, size=2)
        view = pictures[number % 3][top : top + side, left : left + side]
        found.append(pj.images.resize(view, SIDE))
    return np.stack(found).astype(np.float32) / 255


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--lpips", type=float, default=0.1, help="the weight of LPIPS")
    parser.add_argument("--out", default="vae.png")
    options = parser.parse_args(arguments)

    parts = {"l1": (1.0, pj.make("l1"))}
    if options.lpips:
        parts["lpips"] = (options.lpips, pj.make("lpips-alex"))
    distance = pj.weighted_sum(parts)
    fixed = distance.init(jax.random.key(0))  # the weights of LPIPS: an argument, never trained

    network = Autoencoder()
    rng = np.random.default_rng(0)
    images = views(rng, 500)
    model = network.init(jax.random.key(1), images[:1], jax.random.key(2))
    optimiser = optax.adam(optax.cosine_decay_schedule(2e-3, options.steps))
    state = optimiser.init(model)

    @jax.jit
    def step(model, state, fixed, images, key):
        def loss(model):
            made, mean, log_variance = network.apply(model, images, key)
            terms = {
                name: term.mean() for name, term in distance.terms(fixed, made, images).items()
            }
            divergence = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).mean()
            terms["divergence"] = 0.02 * divergence
            return sum(terms.values()), terms

        (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(model)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(model, updates), state, terms

    for number in range(options.steps):
        batch = images[rng.integers(len(images), size=BATCH)]
        key = jax.random.fold_in(jax.random.key(3), number)
        model, state, terms = step(model, state, fixed, batch, key)
        if number % 50 == 0 or number == options.steps - 1:
            print(number, {name: round(float(term), 4) for name, term in terms.items()}, flush=True)

    new = views(rng, 9)
    mean, _ = network.apply(model, new, method="encode")
    between = jnp.linspace(mean[2], mean[5], 9)
    rows = [new, *(network.apply(model, codes, method="decode") for codes in (mean, between))]
    large = [[np.kron(image, np.ones((3, 3, 1))) for image in np.asarray(row)] for row in rows]
    pj.images.write(options.out, pj.images.grid(large))
    print(f"wrote {options.out}")
    return {name: float(term) for name, term in terms.items()}


if __name__ == "__main__":
    main()
