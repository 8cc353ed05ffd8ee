"""Scores of 20 metrics over triplets (reference, a, b), as a two-alternative test needs them.

Ours embeds every image once, and all metrics on one network share its pass. The plain way is a
pass per metric: distance(reference, a), then distance(reference, b).

A row is of triplets of images of their own; the other is of triplets that share images, as those
that people judged do, from images to distances as `perceptual-jax two-afc` computes them, with
its programs compiled.
"""

from __future__ import annotations

import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np

import perceptual_jax as pj
from benchmarks.timing import Peers, Row, Work
from experiments.common.pairs import distances_of_pairs
from perceptual_jax._typing import Params

__all__ = ["METRICS", "ROWS", "scores", "scores_in_torch", "scores_of_shared_images"]

_TRIPLETS, _SIDE = 20, 64
_SHARED, _IMAGES = 3000, 100
_METRICS = ("metric='l2'", "metric='cosine'", "metric='gram'")
METRICS = {
    "vgg16": (
        "lpips-vgg",
        "vgg16",
        *(f"vgg16({metric})" for metric in _METRICS),
        "vgg16(layers='relu3_3', metric='l2')",
        "vgg16(layers='relu3_3', metric='cosine')",
        "vgg16(layers='relu4_3', metric='gram')",
    ),
    "alexnet": ("lpips-alex", "alexnet", *(f"alexnet({metric})" for metric in _METRICS)),
    "no network": ("l1", "l2", "ssim", "patch-rbf", "mmd++", "mmd-rff", "swd"),
}
"""`{network: metrics}`: 20, of which those on one network are one program."""


def triplets(count: int) -> np.ndarray:
    """References, as and bs: [3, count, side, side, 3] in [0, 1]."""
    return np.random.default_rng(0).random((3, count, _SIDE, _SIDE, 3), dtype=np.float32)


def scores(count: int = _TRIPLETS) -> Work:
    """Ours; the call returns `{metric: [2, count]}`, the distances of a and of b."""
    groups = {key: [pj.make(spec) for spec in specs] for key, specs in METRICS.items()}
    params = {}
    for distance in (distance for group in groups.values() for distance in group):
        params |= distance.init(jax.random.key(0))
    params, images = jax.device_put((params, triplets(count).reshape(-1, _SIDE, _SIDE, 3)))

    @partial(jax.jit, static_argnums=0)
    def of_group(group: str, params: Params, images: jax.Array) -> dict:
        found = {}
        for distance in groups[group]:
            embedded = distance.embed(params, images)
            reference, *others = (
                jax.tree.map(lambda leaf, i=i: leaf[i * count : (i + 1) * count], embedded)
                for i in range(3)
            )
            found[distance.name] = [distance.compare(params, reference, other) for other in others]
        return found

    def call() -> dict:
        found = {}
        for group in groups:
            found |= of_group(group, params, images)
        return jax.block_until_ready(found)

    return Work(call)


def scores_of_shared_images(count: int = _SHARED, images: int = _IMAGES) -> Work:
    """Ours; the call returns [m, count, 2], the distances of a and of b."""
    distances = [pj.make(spec) for specs in METRICS.values() for spec in specs]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, _SIDE, _SIDE, 3), dtype=np.uint8)
    drawn = np.stack([rng.choice(images, 3, replace=False) for _ in range(count)])
    pairs = drawn[:, [0, 1, 0, 2]].reshape(-1, 2)

    def call() -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            found = distances_of_pairs(
                distances,
                pairs,
                pixels.__getitem__,
                Path(folder, "distances"),
                seed=0,
                images_at_once=128,
                pairs_at_once=64,
                asked_to_stop=lambda: False,
            )
        return found.reshape(len(distances), count, 2)

    return Work(call, items=count)


def scores_in_torch(
    count: int = _TRIPLETS, *, channels_last: bool = False, items: int = 1
) -> Work | None:
    """The plain way; None without PyTorch."""
    if find_spec("torch") is None:
        return None
    import torch

    from benchmarks import torch_forms

    torch_forms.use_all_cores()
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    metrics = {
        spec: torch_forms.DISTANCES[spec](layout) for specs in METRICS.values() for spec in specs
    }
    reference, a, b = (
        torch_forms.tensor(batch).contiguous(memory_format=layout) for batch in triplets(count)
    )

    def call() -> dict:
        with torch.no_grad():
            return {
                spec: [metric(reference, a), metric(reference, b)]
                for spec, metric in metrics.items()
            }

    return Work(call, items=items)


_COUNT = sum(map(len, METRICS.values()))
ROWS = {
    f"2afc {_COUNT} metrics {_TRIPLETS}x{_SIDE}": Row(
        scores,
        {
            "PyTorch": Peers(
                {
                    "PyTorch, one by one": scores_in_torch,
                    "PyTorch, channels last": partial(scores_in_torch, channels_last=True),
                },
                budget=0.2,
            )
        },
    ),
    f"2afc {_COUNT} metrics {_SHARED} triplets of {_IMAGES} images, a triplet": Row(
        scores_of_shared_images,
        {
            "PyTorch": Peers(
                {
                    "PyTorch, one by one": partial(scores_in_torch, items=_TRIPLETS),
                    "PyTorch, channels last": partial(
                        scores_in_torch, channels_last=True, items=_TRIPLETS
                    ),
                },
                budget=0.2,
            )
        },
    ),
}
"""Of triplets that share images, PyTorch does 20: it takes as long for each."""
