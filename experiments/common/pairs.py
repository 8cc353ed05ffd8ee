"""Distances of many pairs of images: every image embedded once, on all devices, to be gone on with.

A pair that comes again is compared once. Pairs are taken in parts, whose distances are kept in
files as soon as they are there, and a part in blocks of no more images than a device holds the
embeddings of. A block belongs to one device and needs no other. The last ones are filled up, and
what they are filled with is dropped.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

import perceptual_jax as pj
from experiments.common import hosts
from experiments.common.arrays import read_array
from experiments.common.groups import grouped
from experiments.common.mesh import replicate, shard_leading
from experiments.common.progress import progress
from perceptual_jax._files import write_whole
from perceptual_jax._typing import Array, Embedding, ImageLike, Params
from perceptual_jax.errors import InputError

__all__ = ["Stopped", "distances_of_pairs", "read_ahead"]


class Stopped(Exception):  # noqa: N818 - not an error: it was asked for
    """The work was asked to stop; what is done of it is kept."""


_PART_IMAGES, _PART_PAIRS = 2048, 16_384
"""The most of a part: what is read ahead, and what a kill may lose of one group of distances."""


def distances_of_pairs(
    distances: Sequence[pj.Distance],
    pairs: np.ndarray,
    read: Callable[[int], np.ndarray],
    folder: Path,
    *,
    seed: int,
    images_at_once: int,
    pairs_at_once: int,
    asked_to_stop: Callable[[], bool],
    numbers: tuple[int, ...] = (),
) -> np.ndarray:
    """The distances of all pairs, from where an earlier call was stopped.

    Args:
      distances: of any kind, each with a name of its own.
      pairs: indices of images, [p, 2].
      read: `index -> uint8 [h, w, 3]`, all of one size; several threads call it.
      folder: where parts are kept until all are done, and then `distances.npy`, of the pairs
        that differ.
      seed: of random draws.
      images_at_once: how many images a device embeds at once, and keeps the embeddings of.
      pairs_at_once: how many pairs a device compares at once.
      asked_to_stop: is asked between blocks.
      numbers: the shape of what a pair has, where that is more than one number.

    Returns:
      float32 [m, p, *numbers], in the order of the distances.

    Raises:
      InputError: if a distance is NaN, or the folder holds something else.
      Stopped: when asked to; what is done is in the folder.
    """
    pairs, again = np.unique(pairs, axis=0, return_inverse=True)
    whole = folder / "distances.npy"
    if whole.exists():
        found = _saved(whole, (len(distances), len(pairs), *numbers))
        if hosts.leads():
            _forget_parts(folder)
        return found[:, again]
    folder.mkdir(parents=True, exist_ok=True)
    params, groups = grouped(distances, seed)
    rows = {distance.name: row for row, distance in enumerate(distances)}
    found = np.empty((len(distances), len(pairs), *numbers), np.float32)
    at_once = (min(images_at_once, len(np.unique(pairs))), min(pairs_at_once, len(pairs)))
    work = [_Group.of(group, at_once) for group in groups]
    params = replicate(params)

    def kept(part: slice, group: _Group) -> Path:
        return folder / f"{part.start}-{rows[group.names[0]]}.npy"

    parts = list(_runs(pairs, _PART_IMAGES, _PART_PAIRS))
    todo = [part for part in parts if not all(kept(part, group).exists() for group in work)]
    mine = {part.start: pairs[part][hosts.own_rows(part.stop - part.start)] for part in todo}
    done = sum(
        len(group.names) * (part.stop - part.start)
        for part in parts
        for group in work
        if kept(part, group).exists()
    )
    hosts.wait()  # Until all know what is to be done.
    with (
        closing(read_ahead(read, list(mine.values()))) as images,
        progress("distances", len(rows) * len(pairs), unit="pairs", done=done) as advance,
    ):
        for part, pictures in zip(todo, images, strict=True):
            for group in work:
                if kept(part, group).exists():
                    continue
                own = mine[part.start]
                values = np.empty((len(own), len(group.names), *numbers), np.float32)
                for which, got in group.distances(params, own, pictures):
                    values[which] = got.swapaxes(0, 1)
                    advance(len(group.names) * which.size * jax.process_count())
                    # Of several processes some have fewer blocks: they ask when all are done.
                    if not hosts.several() and asked_to_stop():
                        raise Stopped
                values = hosts.whole_rows(values, part.stop - part.start).swapaxes(0, 1)
                _check(group.names, values)
                if hosts.leads():
                    _save(kept(part, group), values)
                if hosts.several() and asked_to_stop():
                    raise Stopped
    for part in parts:
        for group in work:
            size = (len(group.names), part.stop - part.start, *numbers)
            found[[rows[name] for name in group.names], part] = _saved(kept(part, group), size)
    hosts.wait()  # Until all have read.
    if hosts.leads():
        _save(whole, found)
        _forget_parts(folder)
    return found[:, again]


# --- What is taken together ----------------------------------------------------------------


def _runs(pairs: np.ndarray, images: int, most: int | None = None) -> Iterator[slice]:
    """Pairs in a row, of no more than so many images; and no more pairs than `most`."""
    start, seen = 0, set[int]()
    for place, pair in enumerate(pairs.tolist()):
        new = {*pair} - seen
        if len(seen) + len(new) > images or place - start == most:
            yield slice(start, place)
            start, seen = place, set(pair)
        else:
            seen |= new
    if start < len(pairs):
        yield slice(start, len(pairs))


def read_ahead(
    read: Callable[[int], np.ndarray], parts: Sequence[np.ndarray]
) -> Generator[dict[int, np.ndarray]]:
    """The images of every part, `{index: image}`, those of the next being read meanwhile."""
    with ThreadPoolExecutor(thread_name_prefix="read") as threads:

        def begin(part: np.ndarray) -> dict[int, Future]:
            return {int(index): threads.submit(read, int(index)) for index in np.unique(part)}

        coming = begin(parts[0]) if parts else {}
        try:
            for place in range(len(parts)):
                images = {index: future.result() for index, future in coming.items()}
                coming = begin(parts[place + 1]) if place + 1 < len(parts) else {}
                yield images
        finally:
            for future in coming.values():
                future.cancel()


# --- Programs ------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Distances that are one program.

    Attributes:
      names: theirs.
      at_once: how many images, and how many pairs, on a device.
      embed: `(params, images [d * u, h, w, 3]) -> {name: embedding}`.
      compare: `(params, embeddings, pairs [d, k, 2]) -> {name: [d, k]}`; a device's pairs are of
        its own images.
    """

    names: tuple[str, ...]
    at_once: tuple[int, int]
    embed: Callable[[Params, ImageLike], dict[str, Embedding]]
    compare: Callable[[Params, dict[str, Embedding], ArrayLike], dict[str, Array]]

    @classmethod
    def of(cls, distances: Sequence[pj.Distance], at_once: tuple[int, int]) -> _Group:
        @jax.jit
        def embed(params: Params, images: Array) -> dict[str, Embedding]:
            return {distance.name: distance.embed(params, images) for distance in distances}

        @jax.jit
        def compare(params: Params, embedded: dict, pairs: Array) -> dict[str, Array]:
            devices = pairs.shape[0]
            apart = jax.tree.map(
                lambda leaf: leaf.reshape(devices, len(leaf) // devices, *leaf.shape[1:]), embedded
            )

            def by(distance: pj.Distance) -> Array:
                def on_a_device(embedded: Embedding, pairs: Array) -> Array:
                    x, y = (_picked(embedded, pairs[:, side]) for side in (0, 1))
                    return distance.compare(params, x, y)

                return jax.vmap(on_a_device)(apart[distance.name], pairs)

            return {distance.name: by(distance) for distance in distances}

        return cls(tuple(distance.name for distance in distances), at_once, embed, compare)

    def distances(
        self, params: Params, pairs: np.ndarray, images: dict[int, np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Which of the pairs [p, 2], and their distances [m, k, ...], some at a time."""
        most, _ = self.at_once
        devices = jax.local_device_count()
        shares = [
            [_Block.of(pairs, start + run.start, start + run.stop) for run in _runs(share, most)]
            for start, share in zip(*_shares(pairs, devices), strict=True)
        ]
        size = max(block.images.size for share in shares for block in share)
        idle = shares[0][0]._replace(which=np.empty(0, int))
        for together in zip_longest(*shares, fillvalue=idle):
            yield from self._of_blocks(params, [block.filled(size) for block in together], images)

    def _of_blocks(
        self, params: Params, blocks: Sequence[_Block], images: dict[int, np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        _, count = self.at_once
        stacked = np.stack([images[index] for block in blocks for index in block.images.tolist()])
        embedded = self.embed(params, shard_leading(stacked, len(stacked)))
        for start in range(0, max(len(block.which) for block in blocks), count):
            here = [block.which[start : start + count] for block in blocks]
            places = np.zeros((len(blocks), count, 2), np.int32)
            for device, block in enumerate(blocks):
                part = block.places[start : start + count][: len(here[device])]
                places[device, : len(part)] = part
            got = self.compare(params, embedded, shard_leading(places, len(blocks)))
            values = np.stack([np.asarray(got[name]) for name in self.names])
            for device, which in enumerate(here):
                if which.size:
                    yield which, values[:, device, : which.size]


def _picked(embedding: Embedding, places: Array) -> Embedding:
    return jax.tree.map(lambda leaf: leaf[places], embedding)


def _shares(pairs: np.ndarray, count: int) -> tuple[list[int], list[np.ndarray]]:
    """Pairs in parts of equal size, one after the other: where they start, and they."""
    shares = np.array_split(pairs, count)
    return [0, *np.cumsum([len(share) for share in shares[:-1]]).tolist()], shares


class _Block(NamedTuple):
    """What a device works on at a time.

    Attributes:
      which: of the pairs, [k].
      places: of their images among the block's, [k, 2].
      images: indices, [u].
    """

    which: np.ndarray
    places: np.ndarray
    images: np.ndarray

    @classmethod
    def of(cls, pairs: np.ndarray, start: int, stop: int) -> _Block:
        images, places = np.unique(pairs[start:stop], return_inverse=True)
        return cls(np.arange(start, stop), places.reshape(-1, 2), images)

    def filled(self, size: int) -> _Block:
        """With the last image again, up to so many."""
        missing = size - self.images.size
        return self._replace(images=np.pad(self.images, (0, missing), mode="edge"))


# --- Files ---------------------------------------------------------------------------------


def _check(names: Sequence[str], values: np.ndarray) -> None:
    wrong = [name for name, row in zip(names, values, strict=True) if np.isnan(row).any()]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: a distance is NaN")


def _forget_parts(folder: Path) -> None:
    unfinished = folder.glob(".*.part")  # What a kill left of a file that was being written.
    for part in (*folder.glob("*-*.npy"), *unfinished):
        part.unlink()


def _save(path: Path, values: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_whole(path, buffer.getvalue())


def _saved(path: Path, shape: tuple[int, ...]) -> Any:
    values = read_array(path, "distances", "delete it to start over")
    if values.shape != shape or values.dtype != np.float32:
        raise InputError(
            f"{path} holds {values.dtype}{list(values.shape)}, not float32{list(shape)}: it is of "
            "another run; delete it to start over"
        )
    return values
