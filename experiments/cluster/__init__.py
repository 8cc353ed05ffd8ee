"""Clusters of images, as different distances see them: k-means, and a one-hot autoencoder.

A distance that sees as people do puts images of one kind together. k-means works on its embeddings
(k-means++ starts, the best of several restarts, all of it repeated to see the spread). The
autoencoder's code is one-hot, its decoder one image for each cluster, its loss the distance.

    perceptual-jax cluster                        # faces and other pictures, some minutes
    perceptual-jax cluster --preset quick         # about a minute
    perceptual-jax cluster --data FOLDER_OF_FOLDERS --distances l2 lpips-alex

Folders' names are the labels that scores speak of; nothing is learned from them.

References:
  D. Arthur, S. Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007.
  D. Amir, Y. Weiss, "Understanding and Simplifying Perceptual Distances", CVPR 2021.
"""

from __future__ import annotations

from experiments.cluster.autoencoder import by_autoencoder
from experiments.cluster.config import PRESETS, Config, check
from experiments.cluster.embedded import Embedded, embedded_images, images_together
from experiments.cluster.found import Clusters
from experiments.cluster.means import by_means
from experiments.cluster.report import write
from experiments.common.data import Labelled, labelled_images
from experiments.common.loop import interruptible
from experiments.common.options import made
from experiments.common.progress import console
from experiments.common.run_folder import resumed, start
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Clusters", "Config", "run"]


def run(config: Config) -> dict[str, dict[str, Clusters]]:
    """Clusters the images under all distances, and writes the run's folder.

    Returns:
      `{distance: {"k-means": Clusters, "autoencoder": Clusters}}`.

    Raises:
      InputError: for data or options that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("cluster", config)
    check(config)
    distances = made(config.distances, config.size)
    data = labelled_images(config.data, config.size)
    clusters = _number_of_clusters(config, data)
    for distance in distances:  # Errors before the folder is made: weights, sizes.
        together = images_together(distance, data.images, config.memory, config.minibatch)
        if together < clusters:
            raise InputError(
                f"{distance.name}: {together} images at a time are fewer than {clusters} clusters; "
                "give more --memory or a larger --minibatch"
            )
    folder = start("cluster", config, distances=distances)
    found: dict[str, dict[str, Clusters]] = {}
    ways = {}
    with interruptible() as asked_to_stop:
        for distance in distances:
            embedded = embedded_images(
                distance,
                data.images,
                seed=config.seed,
                images_at_once=config.images_at_once,
                memory=config.memory,
                minibatch=config.minibatch,
            )
            ways[distance.name] = _way(embedded)
            console.print(f"{distance.name}: {ways[distance.name]}")
            common = (config, embedded, data, clusters, folder, asked_to_stop)
            found[distance.name] = {"k-means": by_means(*common)}
            if config.autoencoder_repeats:
                found[distance.name]["autoencoder"] = by_autoencoder(*common)
    write(config, folder, data, found, ways)
    return found


def _number_of_clusters(config: Config, data: Labelled) -> int:
    clusters = config.clusters or len(data.names)
    if clusters < 2:
        raise InputError(f"{config.data} has no folders inside to count: give --clusters")
    if clusters >= len(data.images):
        raise InputError(
            f"--clusters must be fewer than the images; got {clusters} for {len(data.images)}"
        )
    return clusters


def _way(embedded: Embedded) -> str:
    """What is done, for people."""
    kind = (
        "squared Euclidean in its embedding: compared by products of matrices"
        if embedded.space.euclidean
        else "not squared Euclidean in its embedding: compared pair by pair"
    )
    size = "all at once" if embedded.points is not None else f"minibatches of {embedded.at_once}"
    return f"{len(embedded.images)} images, {size}, {kind}"
