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

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

import perceptual_jax as pj
from experiments.common import checkpoint, kmeans, spaces
from experiments.common.cluster_scores import Match, Scores, scores
from experiments.common.data import Labelled, labelled_images
from experiments.common.embedded import Embedded, embedded_images, images_together
from experiments.common.loop import Interrupted, interruptible
from experiments.common.mesh import replicate, shard_leading
from experiments.common.one_hot import training
from experiments.common.optimise import Problem, Schedule, adam_descent, descend
from experiments.common.progress import console, progress
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, file_name, resumed, start
from perceptual_jax._files import write_whole
from perceptual_jax._typing import Array, Embedding, Params
from perceptual_jax.errors import InputError, choice

__all__ = ["PRESETS", "Clusters", "Config", "run"]

Matching = Literal["auto", "one-to-one", "majority"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax cluster`."""

    data: str = "embedded"
    """"embedded" (100 faces and 100 pictures of no face), a folder of folders whose names are
    labels, or a folder of images."""
    distances: tuple[str, ...] = (
        "l1", "l2", "mmd++", "vgg16", "vgg16(metric='l2')", "vgg16(metric='gram')", "lpips-alex",
        "lpips-vgg",
    )  # fmt: skip
    """Distances of the catalogue, as names or as calls."""
    clusters: int = 0
    """How many clusters; 0 for as many as there are labels."""
    size: int = 64
    """Side of the images, in pixels: the middle square, by Pillow's bicubic filter."""
    repeats: int = 5
    """How often k-means is done, to see the spread."""
    restarts: int = 3
    """How many starts each time; the one with the least inertia counts."""
    iterations: int = 100
    """How many iterations at most."""
    memory: float = 8.0
    """What all embeddings by one distance may take with room to work, in GiB; where they take
    more, k-means works in minibatches."""
    minibatch: int = 0
    """How many images a minibatch has; 0 for all images if they fit into memory, else as many as
    do, at most 1024."""
    passes: int = 5
    """In minibatches: how often every image is seen."""
    match: Matching = "auto"
    """How clusters get the labels that are scored: "one-to-one", each another; "majority", what
    most of it are; "auto", the former where there are as many clusters as labels."""
    mean_steps: int = 60
    """Steps of Adam for the image whose embedding is nearest to a centroid; 0 for none."""
    mean_rate: float = 0.02
    """Its learning rate, on images in [0, 1]."""
    mean_smoothness: float = 4.0
    """The weight of its total variation, beside distances relative to those in the clusters: no
    image has a mean embedding, and what comes nearest is noisy without."""
    autoencoder_repeats: int = 1
    """How often the one-hot autoencoder is trained; 0 for never."""
    autoencoder_steps: int = 120
    """How many steps of Adam."""
    autoencoder_batch: int = 32
    """How many images a step takes."""
    autoencoder_rate: float = 1e-3
    """The learning rate of the encoder."""
    autoencoder_images_rate: float = 0.01
    """And of the decoder's images in [0, 1]."""
    images_at_once: int = 32
    """How many images a device embeds at once."""
    shown: int = 10
    """How many clusters the report shows, the largest."""
    seed: int = 0
    """Of all random draws."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(
        distances=("l2", "lpips-alex", "vgg16(metric='l2')"), size=32, mean_steps=40,
        autoencoder_steps=100,
    ),
    "default": Config(),
    "paper": Config(
        repeats=10, restarts=20, mean_steps=300, autoencoder_repeats=5, autoencoder_steps=2000
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Clusters:
    """What one method made of the images under one distance.

    Attributes:
      labels: the cluster of each image, of every repeat, [r, n].
      inertia: the mean distance to what stands for the cluster, [r].
      best: the repeat with the least inertia, which is shown.
      cost: of the best, how far each image is from what stands for its cluster, [n].
      pictures: of the best, an image for each of the clusters shown, by cluster.
      scores: of every repeat; none where there are no labels.
    """

    labels: np.ndarray
    inertia: np.ndarray
    best: int
    cost: np.ndarray
    pictures: dict[int, np.ndarray]
    scores: list[Scores]

    def largest(self, count: int) -> list[int]:
        """The largest clusters of the best repeat that have any images."""
        sizes = np.bincount(self.labels[self.best])
        return [int(c) for c in np.argsort(-sizes, kind="stable")[:count] if sizes[c]]


# --- k-means -------------------------------------------------------------------------------


def by_means(
    config: Config,
    embedded: Embedded,
    data: Labelled,
    clusters: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> Clusters:
    """k-means, from where it was stopped.

    Raises:
      Interrupted: when asked to stop; what is done is saved.
    """
    find = _in_minibatches if embedded.points is None else _whole
    labels, inertia = find(config, embedded, clusters, folder, asked_to_stop)
    picked = inertia.reshape(config.repeats, config.restarts).argmin(axis=1)
    picked = picked + np.arange(config.repeats) * config.restarts
    labels, inertia = labels[picked], inertia[picked] / len(data.images)
    best = int(inertia.argmin())
    centroids = embedded.means(labels[best], clusters)
    found = Clusters(
        labels,
        inertia,
        best,
        embedded.costs(centroids, labels[best]),
        {},
        _scored(config, data, labels),
    )
    pictures = _optimised(config, embedded, found, centroids, folder, asked_to_stop)
    return dataclasses.replace(found, pictures=pictures)


def _scored(config: Config, data: Labelled, labels: np.ndarray) -> list[Scores]:
    if len(data.names) < 2:
        return []
    return [scores(data.labels, row, matching(config, data)) for row in labels]


def _whole(
    config: Config,
    embedded: Embedded,
    clusters: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's iterations on all images at once: labels [starts, n], inertia [starts]."""
    name, n, starts = embedded.distance.name, len(embedded.images), config.repeats * config.restarts
    saved = folder.path / "checkpoints" / f"starts-{file_name(name)}.npz"
    labels, inertia = _starts_done(saved, n)
    if len(inertia) == starts or embedded.points is None:
        return labels, inertia
    space, points = _by_coordinates(
        embedded, embedded.points, starts * clusters, folder, asked_to_stop
    )
    key = jax.random.fold_in(jax.random.key(config.seed), 4)
    title = f"{name}, k-means"
    folder.keep_metrics(
        line
        for line in folder.metrics()
        if line["distance"] != name or line.get("start", 0) < len(inertia)
    )
    with progress(title, starts, unit="starts", done=len(inertia)) as advance:
        while len(inertia) < starts:
            own = jax.random.fold_in(key, len(inertia))
            places = kmeans.plus_plus(space, points, clusters, own)
            first = spaces.chosen(points.values, places)
            found = kmeans.lloyd(
                space, points, first, iterations=config.iterations, asked_to_stop=asked_to_stop
            )
            if found is not None:
                labels = np.concatenate([labels, found.labels[None, :n].astype(np.int32)])
                inertia = np.append(inertia, found.inertia)
                folder.log(distance=name, start=len(inertia) - 1, inertia=found.history)
                buffer = io.BytesIO()
                np.savez_compressed(buffer, labels=labels, inertia=inertia)
                saved.parent.mkdir(exist_ok=True)
                write_whole(saved, buffer.getvalue())
                advance()
            if asked_to_stop():
                done = f"{len(inertia)} of {starts} starts of {title}"
                raise Interrupted(f"stopped after {done}; go on with: {folder.resume_command}")
    return labels, inertia


_MOST_COORDINATES = 2048
"""Points that have coordinates found for them: the time is cubic in their number."""


def _by_coordinates(
    embedded: Embedded,
    points: spaces.Points,
    centroids: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[spaces.Space, spaces.Points]:
    """The points by coordinates where that takes less time than to do without.

    Where distances are compared pair by pair, some ten iterations of all starts would compare all
    points with that many times the centroids.
    """
    space, n = embedded.space, len(embedded.images)
    length = sum(leaf[0].size for leaf in jax.tree.leaves(points.values))
    most = min(_MOST_COORDINATES, length if space.euclidean else 10 * centroids)
    if n > most:
        return space, points
    if space.euclidean:
        return spaces.coordinates(space, points)
    columns = []
    title = f"{embedded.distance.name}, all pairs"
    size = points.weight.size
    with progress(title, size, unit="images") as advance:
        for begin in range(0, size, _COLUMNS):
            places = np.arange(begin, begin + _COLUMNS) % size
            others = spaces.chosen(points.values, places)
            found = spaces.distances_of(space.distances, space.context, points.values, others)
            columns.append(np.asarray(found))
            advance(min(_COLUMNS, size - begin))
            if asked_to_stop():
                raise Interrupted(f"stopped in {title}; go on with: {folder.resume_command}")
    return spaces.coordinates(space, points, np.concatenate(columns, axis=1)[:, :size])


_COLUMNS = 16
"""Images that all are compared with at a time."""


def _starts_done(saved: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    if not saved.exists():
        return np.empty((0, count), np.int32), np.empty(0)
    try:
        with np.load(saved, allow_pickle=False) as file:
            return file["labels"], file["inertia"]
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        raise InputError(f"{saved} cannot be read ({error}): delete it to start over") from None


_SAVED_EVERY = 20
"""Minibatches between checkpoints."""


def _in_minibatches(
    config: Config,
    embedded: Embedded,
    clusters: int,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> tuple[np.ndarray, np.ndarray]:
    """The same in minibatches, of which each is embedded once for all starts."""
    name, n, size = embedded.distance.name, len(embedded.images), embedded.at_once
    starts, by_pass = config.repeats * config.restarts, n // size
    space = embedded.space
    steps = config.passes * by_pass
    saved = folder.path / "checkpoints" / f"minibatches-{file_name(name)}"

    def batch(step: int) -> spaces.Points:
        order = np.random.default_rng([config.seed, step // by_pass]).permutation(n)
        return embedded.batch(order[step % by_pass * size :][:size])

    first, key = batch(0), jax.random.fold_in(jax.random.key(config.seed), 4)
    places = [
        kmeans.plus_plus(space, first, clusters, jax.random.fold_in(key, number))
        for number in range(starts)
    ]
    state = replicate(
        [(spaces.chosen(first.values, place), jnp.zeros(clusters)) for place in places]
    )
    done = checkpoint.latest_step(saved) or 0
    if done:
        state = checkpoint.restore(saved, done, state)
    with progress(f"{name}, k-means", steps, unit="minibatches", done=done) as advance:
        while done < steps:
            points = batch(done)
            state = [
                kmeans.minibatch_step(space.distances, space.context, points, *each)
                for each in state
            ]
            done += 1
            advance()
            stopping = asked_to_stop()
            if done % _SAVED_EVERY == 0 or done == steps or stopping:
                checkpoint.save(saved, done, state)
            if stopping:
                raise Interrupted(
                    f"stopped at minibatch {done} of {steps} of {name}; "
                    f"go on with: {folder.resume_command}"
                )
    labels, costs = embedded.assigned(*(centroids for centroids, _ in state))
    return labels, costs.astype(np.float64).sum(axis=1)


def _optimised(
    config: Config,
    embedded: Embedded,
    found: Clusters,
    centroids: Embedding,
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
) -> dict[int, np.ndarray]:
    """The images whose embeddings are nearest to the centroids, of the clusters shown."""
    shown = found.largest(config.shown)
    distance, labels = embedded.distance, found.labels[found.best]
    pixels = [embedded.images[labels == cluster].mean(axis=0) / 255 for cluster in shown]
    first = jnp.asarray(np.stack(pixels), jnp.float32)
    if config.mean_steps == 0:
        return {}
    scale = max(float(found.cost.mean()), 1e-12)
    targets = jax.tree.map(
        lambda leaf, shift: leaf[np.asarray(shown)] + shift, centroids, embedded.origin
    )

    def loss(context: tuple[Params, Embedding], images: Array) -> Array:
        params, targets = context
        far = distance.compare(params, distance.embed(params, images), targets)
        return far / scale + config.mean_smoothness * pj.total_variation(images)

    images = descend(
        Problem(
            adam_descent(loss, learning_rate=config.mean_rate),
            # Not those of all devices: as many have a part in this as divide the clusters.
            lambda draw: (distance.init(jax.random.key(config.seed)), targets),
        ),
        first,
        Schedule(config.mean_steps, max(config.mean_steps // 2, 1)),
        label={"distance": distance.name, "what": "centroids"},
        folder=folder,
        asked_to_stop=asked_to_stop,
    ).images
    return dict(zip(shown, images, strict=True))


# --- The autoencoder -----------------------------------------------------------------------


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
        rows, inertia, best, costs[best], dict(enumerate(images[best])), _scored(config, data, rows)
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
    step = checkpoint.latest_step(saved) or 0
    if step:
        state = checkpoint.restore(saved, step, state)
    label = {"distance": name, "what": f"autoencoder {repeat + 1}"}
    folder.keep_metrics(
        line
        for line in folder.metrics()
        if not (label.items() <= line.items() and line["step"] > step)
    )
    with progress(" ".join(label.values()), steps, done=step) as advance:
        while step < steps:
            rng = np.random.default_rng([config.seed, 6, repeat, step])
            batch = rng.permutation(n)[:size]
            targets = embedded.batch(batch)
            images = embedded.images[np.resize(batch, targets.weight.size)]
            state, loss = train.step(context, state, _shared(images), targets)
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


# --- The run -------------------------------------------------------------------------------


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
    distances = [pj.make(spec) for spec in config.distances]
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
    _write(config, folder, data, found, ways)
    return found


def check(config: Config) -> None:
    """Raises an `InputError` for options that cannot be used."""
    many = 10**9
    bounds = {
        **{"clusters": (0, many), "size": (2, 8192), "repeats": (1, 10**4), "restarts": (1, 10**4)},
        **{"iterations": (1, many), "memory": (1e-6, 1e6), "minibatch": (0, many)},
        **{"passes": (1, many), "mean_steps": (0, many), "mean_rate": (1e-9, 1e3)},
        **{"mean_smoothness": (0, 1e6)},
        **{"autoencoder_repeats": (0, 10**4), "autoencoder_steps": (1, many)},
        **{"autoencoder_batch": (1, many), "autoencoder_rate": (1e-9, 1e3)},
        **{"autoencoder_images_rate": (1e-9, 1e3), "images_at_once": (1, many)},
        **{"shown": (1, many), "seed": (0, 2**31 - 1)},
    }
    for field, (least, most) in bounds.items():
        value = getattr(config, field)
        if not least <= value <= most:
            flag = f"--{field.replace('_', '-')}"
            raise InputError(f"{flag} must be at least {least} and at most {most}; got {value}")
    choice("--match", config.match, ("auto", "one-to-one", "majority"))
    names = [pj.make(spec).name for spec in config.distances]
    if not names or len(set(names)) < len(names):
        raise InputError(f"--distances must name one or more, each once; got {', '.join(names)}")


def _number_of_clusters(config: Config, data: Labelled) -> int:
    clusters = config.clusters or len(data.names)
    if clusters < 2:
        raise InputError(f"{config.data} has no folders inside to count: give --clusters")
    if clusters >= len(data.images):
        raise InputError(
            f"--clusters must be fewer than the images; got {clusters} for {len(data.images)}"
        )
    return clusters


def matching(config: Config, data: Labelled) -> Match:
    """How clusters get their labels."""
    if config.match != "auto":
        return config.match
    return "one-to-one" if config.clusters in (0, len(data.names)) else "majority"


def _way(embedded: Embedded) -> str:
    """What is done, for people."""
    kind = (
        "squared Euclidean in its embedding: compared by products of matrices"
        if embedded.space.euclidean
        else "not squared Euclidean in its embedding: compared pair by pair"
    )
    size = "all at once" if embedded.points is not None else f"minibatches of {embedded.at_once}"
    return f"{len(embedded.images)} images, {size}, {kind}"


# --- What is written -----------------------------------------------------------------------

_NUMBERS = {
    "f1": "weighted F1",
    "precision": "precision",
    "recall": "recall",
    "nmi": "NMI",
    "ari": "ARI",
}
_NEAREST = 7


def _write(
    config: Config,
    folder: RunFolder,
    data: Labelled,
    found: dict[str, dict[str, Clusters]],
    ways: dict[str, str],
) -> None:
    each = [(name, method, made) for name, by in found.items() for method, made in by.items()]
    folder.write_json("results.json", _as_json(config, data, each, ways))
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["file", "label", *(f"{name}, {method}" for name, method, _ in each)])
    for place, file in enumerate(data.files):
        chosen = [int(made.labels[made.best, place]) for _, _, made in each]
        rows.writerow([file, data.names[data.labels[place]], *chosen])
    write_whole(folder.path / "assignments.csv", text.getvalue().encode(errors="surrogateescape"))
    for name, method, made in each:
        shown = [made.pictures[c] for c in made.largest(config.shown) if c in made.pictures]
        if shown:
            folder.write_image(f"{file_name(name)}-{method}.png", pj.images.grid([shown]))
    if each[0][2].scores:
        bars(found).savefig(folder.path / "scores.png", dpi=110)
        table = Table(*("distance", "method", "F1", "NMI", "ARI"), box=None)
        for name, method, made in each:
            numbers = _mean_and_spread(made)
            table.add_row(name, method, *(numbers[place] for place in (0, 3, 4)))
        console.print(table)
    report_on(config, data, found, ways).write(folder.path / "report.html")
    console.print(f"report: {folder.path / 'report.html'}")


def _mean_and_spread(made: Clusters) -> list[str]:
    values = np.asarray(made.scores)
    spread = "" if len(values) == 1 else " ± {:.3f}"
    return [
        f"{mean:.3f}" + spread.format(deviation)
        for mean, deviation in zip(values.mean(axis=0), values.std(axis=0), strict=True)
    ]


def _as_json(
    config: Config, data: Labelled, each: list[tuple[str, str, Clusters]], ways: dict[str, str]
) -> dict[str, Any]:
    return {
        "images": len(data.images),
        "labels": list(data.names),
        "match": matching(config, data) if len(data.names) > 1 else None,
        "how": ways,
        "results": [
            {
                "distance": name,
                "method": method,
                "inertia": made.inertia.tolist(),
                "best": made.best,
                "clusters_used": [len(np.unique(row)) for row in made.labels],
                "scores": [score._asdict() for score in made.scores],
            }
            for name, method, made in each
        ],
    }


def report_on(
    config: Config,
    data: Labelled,
    found: dict[str, dict[str, Clusters]],
    ways: dict[str, str],
) -> Report:
    """The report's page."""
    report = Report(
        "Which distance puts images of one kind together?",
        f"{len(data.images)} images were put into clusters by how far they are from each other "
        "under each distance; nothing was learned from their labels. k-means is shown by the "
        "smooth image whose embedding is nearest to each centroid, found by descent from the "
        "cluster's pixel mean, and by its nearest images; the one-hot autoencoder by the images "
        "that its decoder holds.",
    )
    labelled = len(data.names) > 1
    if labelled:
        report.figure(bars(found), "Weighted F1 and NMI of every distance, with the spread")
        report.table(
            ["distance", *_NUMBERS.values()],
            [
                [f"{name}, {method}", *_mean_and_spread(made)]
                for name, by in found.items()
                for method, made in by.items()
            ],
        )
        how = {
            "one-to-one": "each gets another, so that as many images as possible are right",
            "majority": "each gets the label that most of its images have",
        }[matching(config, data)]
        report.text(
            "F1, precision and recall are means over labels, weighted by their images, after "
            f"clusters got labels: {how}. NMI and the adjusted Rand index need no labels for "
            f"clusters. Mean and standard deviation over {config.repeats} repeats of k-means, each "
            f"the best of {config.restarts} starts by inertia."
        )
    for name, by in found.items():
        report.heading(name)
        report.text(f"{ways[name]}.")
        for method, made in by.items():
            report.pictures(_rows(config, data, method, made))
    report.heading("How it was made")
    report.code("\n".join(f"{key} = {value}" for key, value in dataclasses.asdict(config).items()))
    return report


def _rows(
    config: Config, data: Labelled, method: str, made: Clusters
) -> dict[str, list[tuple[np.ndarray, str]]]:
    """Each cluster's picture and the images nearest to what stands for it."""
    labels = made.labels[made.best]
    rows = {}
    for number, cluster in enumerate(made.largest(config.shown), start=1):
        members = np.flatnonzero(labels == cluster)
        nearest = members[np.argsort(made.cost[members], kind="stable")][:_NEAREST]
        row = [(data.images[i], data.names[data.labels[i]]) for i in nearest.tolist()]
        if cluster in made.pictures:
            row.insert(0, (made.pictures[cluster], _PICTURE[method]))
        title = f"{method}, cluster {number}: {members.size} images"
        if len(data.names) > 1:
            counts = np.bincount(data.labels[members])
            title += f", {counts.max() / members.size:.0%} {data.names[counts.argmax()]}"
        rows[title] = row
    return rows


_PICTURE = {"k-means": "nearest to the centroid", "autoencoder": "decoded"}


def bars(found: dict[str, dict[str, Clusters]]) -> Figure:
    """Weighted F1 and NMI of every distance and method, with standard deviations."""
    figure = Figure(figsize=(10, 1.2 + 0.5 * len(found)), layout="constrained")
    names = list(found)
    colours = {"k-means": "#7aa6c2", "autoencoder": "#d8a25e"}
    methods = list(next(iter(found.values())))
    for axes, number in zip(figure.subplots(1, 2, sharey=True), ("f1", "nmi"), strict=True):
        for place, method in enumerate(methods):
            values = [[getattr(s, number) for s in found[n][method].scores] for n in names]
            height = 0.8 / len(methods)
            axes.barh(
                np.arange(len(names)) + (place - (len(methods) - 1) / 2) * height,
                [np.mean(row) for row in values],
                height,
                xerr=[np.std(row) for row in values],
                color=colours[method],
                ecolor="#444",
                label=method,
            )
        axes.set(xlabel=_NUMBERS[number], xlim=(0, 1.02))
        axes.set_yticks(range(len(names)), names)
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
