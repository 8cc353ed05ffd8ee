"""The one-hot autoencoder, trained as often as asked."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cluster import kmeans
from experiments.cluster.config import Config
from experiments.cluster.embedded import Embedded
from experiments.cluster.found import Clusters, scored
from experiments.cluster.one_hot import training
from experiments.common import checkpoint
from experiments.common.data import Labelled
from experiments.common.loop import Interrupted
from experiments.common.mesh import replicate, shard_leading
from experiments.common.progress import progress
from experiments.common.run_folder import RunFolder, file_name
from perceptual_jax._typing import Array
from perceptual_jax.errors import InputError

__all__ = ["by_autoencoder"]


def by_autoencoder(
    config: Config,
    embedded: Embedded,
    data: Labelled,
    clusters: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> Clusters:
    """The one-hot autoencoder, trained as often as asked, from where it was stopped.

    Raises:
      Interrupted: when asked to stop, after saving.
    """
    labels, costs, images = [], [], []
    for repeat in range(config.autoencoder_repeats):
        chosen, decoded = _trained(config, embedded, clusters, repeat, folder, asked_to_stop)
        labels.append(chosen)
        costs.append(embedded.costs(embedded.point_of(decoded), chosen))
        images.append(decoded)
    inertia = np.asarray([cost.mean(dtype=np.float64) for cost in costs])
    best = int(inertia.argmin())
    rows = np.stack(labels)
    return Clusters(
        rows, inertia, best, costs[best], dict(enumerate(images[best])), scored(config, data, rows)
    )


def _trained(
    config: Config,
    embedded: Embedded,
    clusters: int,
    repeat: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[np.ndarray, np.ndarray]:
    """The clusters [n] that the encoder chooses, and the decoder's images [k, h, w, 3]."""
    name, n = embedded.distance.name, len(embedded.images)
    size, steps = min(config.autoencoder_batch, n), config.autoencoder_steps
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 5), repeat)
    train = training(
        embedded.distance,
        embedded.space,
        clusters,
        learning_rate=config.autoencoder_rate,
        images_rate=config.autoencoder_images_rate,
        smoothness=config.autoencoder_smoothness,
    )
    which = np.random.default_rng([config.seed, 5, repeat]).permutation(n)[: embedded.at_once]
    points = embedded.batch(which)
    places = which[kmeans.plus_plus(embedded.space, points, clusters, key)]
    first = jnp.asarray(embedded.images[places] / 255, jnp.float32)
    _, apart = embedded.assigned(embedded.point_of(first))
    scale = float(apart.mean())
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"{name}: its distances cannot be learned from; their mean is {scale:g}")
    context = (embedded.params, embedded.space.context, embedded.origin, jnp.float32(scale))
    state = replicate(train.init(key, first))
    saved = folder.path / "checkpoints" / f"autoencoder-{file_name(name)}-{repeat}"
    step, state = checkpoint.restore_latest(saved, state)
    label = {"distance": name, "what": f"autoencoder {repeat + 1}"}
    folder.keep_metrics(
        line
        for line in folder.metrics()
        if not (label.items() <= line.items() and line.get("step", 0) > step)
    )
    with progress(" ".join(label.values()), steps, done=step) as advance:
        while step < steps:
            rng = np.random.default_rng([config.seed, 6, repeat, step])
            batch = rng.permutation(n)[:size]
            targets = embedded.batch(batch)
            images = embedded.images[np.resize(batch, targets.weight.size)]
            left = max(1 - 2 * step / steps, 0)
            balance = jnp.float32(config.autoencoder_balance * left)
            state, loss = train.step(context, state, _shared(images), targets, balance)
            step += 1
            advance()
            stopping = asked_to_stop()
            if step % 50 == 0 or step == steps or stopping:
                folder.log(**label, step=step, loss=float(loss))
                checkpoint.save(saved, step, state)
            if stopping:
                raise Interrupted(
                    f"stopped at step {step} of {steps} of {' '.join(label.values())}; "
                    f"go on with: {folder.resume_command}"
                )
    parts = [
        np.asarray(
            train.encode(state, jnp.asarray(embedded.images[start : start + 64] / 255, jnp.float32))
        )
        for start in range(0, n, 64)
    ]
    return np.concatenate(parts).astype(np.int32), np.asarray(state.variables["images"])


def _shared(images: np.ndarray) -> Array:
    return shard_leading(jnp.asarray(images / 255, jnp.float32), len(images))
