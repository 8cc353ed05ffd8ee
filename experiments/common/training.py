"""Training of networks that make images, under any distance or other loss.

One jitted step over a mesh of devices: the batch is spread, the networks are copied, a table of
codes is spread by rows. The state it is given is used up. Batches are drawn by (seed, step), and
a step draws nothing, so that a resumed run equals an unbroken one bit for bit.

What a network is given and what is wanted of it come from images that are both, or from a source
that makes them for every step. What judges it is a distance, or anything of a distance's form.
Another network may be trained in turns with it to tell what it makes from what was wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments.common import checkpoint, hosts
from experiments.common.augment import Augmentation, augmented
from experiments.common.code_table import CodeTable
from experiments.common.generators import Network
from experiments.common.loop import Interrupted, chunk_length
from experiments.common.mesh import data_mesh, spread_and_copied
from experiments.common.method import (
    Adversary,
    Batch,
    Codes,
    Loss,
    Method,
    Opponent,
    State,
    take_step,
)
from experiments.common.progress import progress
from experiments.common.run_folder import RunFolder, file_name
from perceptual_jax._typing import Key, Params
from perceptual_jax.errors import InputError

__all__ = [
    "Adversary",
    "Batch",
    "Codes",
    "Loss",
    "Method",
    "Network",
    "Opponent",
    "Schedule",
    "Source",
    "State",
    "Trained",
    "batch_rows",
    "check_batches",
    "lowered",
    "train",
]

T = TypeVar("T")

_AUGMENTING = 12
"""Sets these draws apart from others of the same seed."""


class Source(NamedTuple):
    """Batches that are made on the host, while the step before them is taken.

    Attributes:
      take: `step -> Batch`, of as many as the schedule says; by the step alone, so that training
        can be resumed. It is called in another thread.
      epoch: how many steps make one.
    """

    take: Callable[[int], Batch]
    epoch: int = 1


class Schedule(NamedTuple):
    """When things happen.

    Attributes:
      epochs: how often every image is seen, on average where batches do not divide their number;
        or how many epochs of a source are taken.
      batch: how many images a step takes.
      snapshot_every: in steps: a checkpoint is saved and a line logged.
      seed: of the batches' order.
      keep: how many of the last checkpoints are kept, beside the one with the least loss.
      augment: how images are changed by chance whenever they are taken.
    """

    epochs: int
    batch: int
    snapshot_every: int
    seed: int = 0
    keep: int = 1
    augment: tuple[Augmentation, ...] = ()

    def steps(self, images: int, epochs: int | None = None) -> int:
        """How many steps see every image that often; by default, of how many training is."""
        return max(1, round((self.epochs if epochs is None else epochs) * images / self.batch))


class Trained(NamedTuple):
    """What training ends with.

    Attributes:
      state: on the host.
      metrics: the lines logged on the way, from before it was resumed too.
    """

    state: State
    metrics: list[dict[str, Any]]


class _Placement(NamedTuple):
    """Where things are on the mesh of all devices that a batch is spread over.

    Attributes:
      copied: what every device has.
      state: a `State` of shardings: all of it copied but the table of codes, spread by rows.
      batches: of several batches, each spread: [steps, n, ...].
    """

    copied: NamedSharding
    state: Any
    batches: NamedSharding

    @classmethod
    def of(cls, batch: int) -> _Placement:
        mesh = data_mesh(batch, everywhere=True)
        spread, copied = spread_and_copied(mesh)
        each: list[Any] = [spread if field == "table" else copied for field in State._fields]
        return cls(copied, State(*each), NamedSharding(mesh, PartitionSpec(None, "data")))


def _advance(method: Method, placement: _Placement) -> Any:
    """`(params, state, rows, batches) -> ` the state a step later for each batch, and measures.

    Jitted; the state given is used up. The measures are those of `take_step`, of every step.
    """

    # Said outright: the compiler might spread what must be copied, and compile again for that.
    @partial(jax.jit, donate_argnums=1, out_shardings=(placement.state, placement.copied))
    def advance(params: Params, state: State, rows: Any, batch: Any) -> tuple[State, Any]:
        if len(jax.tree.leaves(batch)[0]) == 1:
            first = jax.tree.map(lambda leaf: leaf[0], (rows, batch))
            state, measured = take_step(method, params, state, *first)
            return state, jax.tree.map(lambda leaf: leaf[None], measured)
        return jax.lax.scan(lambda s, b: take_step(method, params, s, *b), state, (rows, batch))

    return advance


def lowered(
    method: Method, images: jax.ShapeDtypeStruct, table: Callable[[Key], CodeTable]
) -> jax.stages.Lowered:
    """A step on a batch of images with codes, to be compiled for all devices without any array.

    Args:
      method: what is trained.
      images: what a batch looks like, [n, h, w, 3].
      table: `key -> ` the first codes.
    """
    count = images.shape[0]
    placement = _Placement.of(count)

    def shaped(tree: Any, sharding: NamedSharding) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    first = jax.eval_shape(lambda key: _first_state(method, key, table), jax.random.key(0))
    state = State(*map(shaped, first, placement.state))
    params = shaped(jax.eval_shape(method.distance.init, jax.random.key(0)), placement.copied)
    batch = shaped(
        (jax.ShapeDtypeStruct((1, count), jnp.int32), images.update(shape=(1, *images.shape))),
        placement.batches,
    )
    return _advance(method, placement).lower(params, state, *batch)


# --- The loop ------------------------------------------------------------------------------


def batch_rows(count: int, schedule: Schedule, step: int) -> np.ndarray:
    """Which images a step takes: [batch], each once.

    As many steps as they fill share a permutation of all `count`, of which the rest is left out.
    """
    turn, part = divmod(step, count // schedule.batch)
    order = np.random.default_rng([schedule.seed, turn]).permutation(count)
    return order[part * schedule.batch : (part + 1) * schedule.batch].astype(np.int32)


def _draw(images: np.ndarray | Source, schedule: Schedule, step: int) -> tuple[Any, Any]:
    """The rows of codes that a step takes, where it takes rows of images; and its batch."""
    if isinstance(images, Source):
        return None, images.take(step)
    rows = batch_rows(len(images), schedule, step)
    if not schedule.augment:
        return rows, images[rows]
    rng = np.random.default_rng([schedule.seed, _AUGMENTING, step])
    return rows, augmented(images[rows], schedule.augment, rng)


def _ahead(
    make: Callable[[int, int], T], step: int, steps: int, every: int
) -> Generator[tuple[int, T], None, None]:
    """`(steps, make(step, steps))` of every chunk of steps, made in another thread meanwhile.

    What goes wrong there is raised here, as it is, where its chunk was due.
    """

    def lengths() -> Iterator[tuple[int, int]]:
        first = step
        while first < steps:
            length = min(chunk_length(), steps - first, every - first % every)
            yield first, length
            first += length

    with ThreadPoolExecutor(1) as worker:
        coming: Any = None
        for first, length in lengths():
            following = length, worker.submit(make, first, length)
            if coming is not None:
                yield coming[0], coming[1].result()
            coming = following
        if coming is not None:
            yield coming[0], coming[1].result()


def _said_with(
    batches: Generator[tuple[int, T], None, None], what: Callable[[], str]
) -> Generator[tuple[int, T], None, None]:
    """The same batches; where one cannot be made for want of its data, that is said with `what`."""
    with closing(batches):
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except InputError as error:
                raise InputError(f"{error}; {what()}") from error
            yield batch


def check_batches(images: int, batch: int, microbatches: int) -> None:
    """Raises an `InputError` if the images do not fill a batch, or the parts do not divide it."""
    if images < batch:
        raise InputError(
            f"{images} images to learn from do not fill a batch of {batch}: "
            "give more images or a smaller --batch"
        )
    if hosts.several() and batch % jax.device_count():
        raise InputError(
            f"--batch must be a multiple of the {jax.device_count()} devices of all processes; "
            f"got {batch}"
        )
    if batch % microbatches or batch == microbatches:
        raise InputError(
            f"--microbatches must divide --batch into parts of at least two images; got "
            f"{microbatches} of {batch}"
        )


def train(
    method: Method,
    images: np.ndarray | Source,
    schedule: Schedule,
    *,
    key: Key,
    label: Mapping[str, str],
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
    table: Callable[[Key], CodeTable] | None = None,
    first: tuple[Any, Any] | None = None,
    snapshot: Callable[[int, State], dict[str, Any]] = lambda step, state: {},
) -> Trained:
    """Trains, from the last checkpoint if there is one.

    Args:
      method: what is trained.
      images: uint8 [n, h, w, 3], at least a batch of them, which are given and wanted (given codes,
        wanted); or a source of batches.
      schedule: when things happen.
      key: of the distance's and the network's random draws.
      label: names this training among those of the run, in metrics.jsonl and in checkpoints.
      folder: the run's.
      asked_to_stop: whether to save and stop.
      table: `key -> ` the first codes, where they are learned.
      first: the network's first params and running averages; by default it draws them.
      snapshot: `(step, state) -> ` what else to log; it may draw.

    Raises:
      InputError: if the loss or its gradient is no longer finite, naming the step, if a source
        finds no images, or if what is found cannot be written; the last checkpoint from before is
        kept.
      Interrupted: when asked to stop, after saving.
    """
    title = " ".join(label.values())
    if isinstance(images, Source):
        epoch, steps = float(images.epoch), schedule.epochs * images.epoch
    else:
        epoch, steps = len(images) / schedule.batch, schedule.steps(len(images))
    every = schedule.snapshot_every
    placement = _Placement.of(schedule.batch)
    advance = _advance(method, placement)
    params = hosts.placed(method.distance.init(jax.random.fold_in(key, 0)), placement.copied)
    begun = _first_state(method, jax.random.fold_in(key, 1), table, first)
    state = State(*map(hosts.placed, begun, placement.state))
    saved = folder.shared / "checkpoints" / file_name(title)
    step, state = checkpoint.restore_latest(saved, state)
    sound = step
    with folder.writing(title, _kept(step, saved)):
        metrics = folder.forget_after(step, label)
    pending: list[Any] = []

    def drawn(first: int, length: int) -> tuple[Any, Any]:
        draws = [_draw(images, schedule, first + i) for i in range(length)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *draws)

    def how_to_go_on() -> str:
        return f"{_kept(sound, saved)}; with that put right, go on with: {folder.resume_command}"

    # Of images, so that the rate is in images a second.
    total, done = steps * schedule.batch, step * schedule.batch
    with (
        progress(title, total, unit="images", done=done) as advance_bar,
        closing(_said_with(_ahead(drawn, step, steps, every), how_to_go_on)) as batches,
    ):
        for length, batch in batches:
            state, measured = advance(params, state, *hosts.placed(batch, placement.batches))
            if pending:  # One chunk ahead of the devices, and no more.
                jax.block_until_ready(pending[-1])
            pending.append(measured)
            step += length
            stopping = asked_to_stop()
            if step % every == 0 or step == steps or stopping:
                kept = _kept(sound, saved)
                _check_finite(title, pending, step, kept)
                pending = []
                since = step - (step - 1) // every * every
                with folder.writing(f"step {step} of {title}", kept):
                    line = {
                        **label,
                        "step": step,
                        "epoch": step / epoch,
                        **{name: float(state.losses[name]) / since for name in method.logged},
                        **snapshot(step, state),
                    }
                    state = _summed_anew(state) if step % every == 0 else state
                    # The line first: one too many is dropped on resuming, one too few is lost.
                    folder.log(**line)
                    checkpoint.save(saved, step, state, keep=schedule.keep, loss=line["loss"])
                metrics.append(line)
                sound = step
            advance_bar(length * schedule.batch)
            if stopping:
                raise Interrupted(
                    f"stopped at step {step} of {steps} of {title}; "
                    f"go on with: {folder.resume_command}"
                )
    return Trained(hosts.on_host(state), metrics)


def _first_state(
    method: Method,
    key: Key,
    table: Callable[[Key], CodeTable] | None,
    first: tuple[Any, Any] | None = None,
) -> State:
    # Copies, which a step may give up.
    params, running = jax.tree.map(
        jnp.array, first or method.network.init(jax.random.fold_in(key, 0))
    )
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        running=running,
        optimiser=method.optimiser.init(params),
        table=() if table is None else table(jax.random.fold_in(key, 1)),
        losses={name: jnp.zeros(()) for name in method.logged},
        opponent=_first_opponent(method.adversary, jax.random.fold_in(key, 2)),
    )


def _summed_anew(state: State) -> State:
    losses: Any = {
        name: hosts.placed(np.zeros((), np.float32), old.sharding)
        for name, old in state.losses.items()
    }
    return state._replace(losses=losses)


def _first_opponent(adversary: Adversary | None, key: Key) -> Any:
    if adversary is None:
        return ()
    params, running = adversary.network.init(key)
    return Opponent(params, running, adversary.optimiser.init(params))


def _kept(sound: int, saved: Path) -> str:
    """What there is to go on from."""
    return f"the checkpoint of step {sound} is kept in {saved}" if sound else "nothing was saved"


def _check_finite(title: str, measured: list[Any], step: int, kept: str) -> None:
    """Raises where a loss or a gradient's norm is not finite: step says which the last one is."""
    losses, norms = (np.concatenate([np.asarray(m[i]) for m in measured]) for i in range(2))
    bad = np.flatnonzero(~(np.isfinite(losses) & np.isfinite(norms)))
    if len(bad) == 0:
        return
    at = step - len(losses) + int(bad[0]) + 1
    what = "gradient" if np.isfinite(losses[bad[0]]) else "loss"
    raise InputError(
        f"{title}: the {what} is not finite at step {at}; {kept}; "
        "try a smaller --learning-rate or a --clip"
    )
