"""Training of networks that make images, under any distance.

One jitted step over a mesh of devices: the batch is spread, the networks are copied, a table of
codes is spread by rows. The state it is given is used up. Batches are drawn by (seed, epoch), and
a step draws nothing, so that a resumed run equals an unbroken one bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import perceptual_jax as pj
from experiments.common import checkpoint
from experiments.common.code_table import CodeTable, move
from experiments.common.generators import Network
from experiments.common.loop import Interrupted, chunk_length
from experiments.common.mesh import data_mesh, replicate, spread_and_copied
from experiments.common.progress import progress
from experiments.common.run_folder import RunFolder, file_name
from perceptual_jax._typing import Array, Key, Params
from perceptual_jax.errors import InputError

__all__ = [
    "Codes",
    "Method",
    "Schedule",
    "State",
    "Trained",
    "batch_rows",
    "check_batches",
    "train",
]


class State(NamedTuple):
    """Where training is.

    Attributes:
      step: how many were taken.
      params: of the networks.
      running: their running averages.
      optimiser: the optimiser's state.
      table: a `CodeTable`, where codes are learned; else ().
      losses: the sum of the losses since the last snapshot that was due.
    """

    step: Array
    params: Any
    running: Any
    optimiser: Any
    table: Any
    losses: Array


class Codes(NamedTuple):
    """How codes are learned.

    Attributes:
      learning_rate: `step -> rate`.
      unit_norm: whether they are scaled to length 1 after every step.
      alternate: whether a step moves the codes of its batch, and only then the network, by the
        gradient there; else both move at once.
    """

    learning_rate: Callable[[Array], Array]
    unit_norm: bool = False
    alternate: bool = False


class Method(NamedTuple):
    """What is trained, and how.

    Attributes:
      network: of images, or of codes where these are learned.
      distance: between what it makes and the images; its params are never trained.
      optimiser: of the network.
      codes: how they are learned; None for a network that takes the images themselves.
      clip: the greatest norm of the network's gradient, which is scaled down to it; 0 for any.
      microbatches: how many parts of a batch are taken one after the other, each with statistics
        of its own, to save memory.
    """

    network: Network
    distance: pj.Distance
    optimiser: optax.GradientTransformation
    codes: Codes | None = None
    clip: float = 0.0
    microbatches: int = 1


class Schedule(NamedTuple):
    """When things happen.

    Attributes:
      epochs: how often every image is seen.
      batch: how many images a step takes.
      snapshot_every: in steps: a checkpoint is saved and a line logged.
      seed: of the batches' order.
    """

    epochs: int
    batch: int
    snapshot_every: int
    seed: int = 0

    def steps(self, images: int) -> int:
        """Of how many steps training is; what does not fill a batch waits for the next epoch."""
        return self.epochs * (images // self.batch)


class Trained(NamedTuple):
    """What training ends with.

    Attributes:
      state: on the host.
      metrics: the lines logged on the way, from before it was resumed too.
    """

    state: State
    metrics: list[dict[str, Any]]


# --- The step ------------------------------------------------------------------------------


def _gradients(method: Method, params: Params, state: State, inputs: Array, images: Array) -> Any:
    """The loss, the running averages, and the gradients in the network and in its inputs."""

    def loss(trained: Any, inputs: Array, running: Any, images: Array) -> tuple[Array, Any]:
        made, running = method.network.train(trained, running, inputs)
        return method.distance(params, made, images).mean(), running

    differentiated: Any = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    parts = method.microbatches
    if parts == 1:
        (value, running), gradients = differentiated(state.params, inputs, state.running, images)
        return value, running, gradients

    def one(carry: tuple, part: tuple) -> tuple:
        value, running, total = carry
        (more, running), (gradient, of_inputs) = differentiated(
            state.params, part[0], running, part[1]
        )
        return (value + more, running, jax.tree.map(jnp.add, total, gradient)), of_inputs

    def split(array: Array) -> Array:
        # Every part has images of every device.
        return array.reshape(len(array) // parts, parts, *array.shape[1:]).swapaxes(0, 1)

    none = jax.tree.map(jnp.zeros_like, state.params)
    start = (jnp.zeros((), images.dtype), state.running, none)
    found: Any = jax.lax.scan(one, start, (split(inputs), split(images)))
    (value, running, total), by_part = found
    of_inputs = by_part.swapaxes(0, 1).reshape(inputs.shape)
    return value / parts, running, jax.tree.map(lambda leaf: leaf / parts, (total, of_inputs))


def _step(
    method: Method, params: Params, state: State, rows: Array, pictures: Array
) -> tuple[State, tuple[Array, Array]]:
    """One step; also the loss, and the norm of the network's gradient."""
    images = pictures.astype(jnp.float32) / 255
    codes, table = method.codes, state.table
    if codes is None:
        value, running, (gradient, _) = _gradients(method, params, state, images, images)
    else:
        rate = codes.learning_rate(state.step)
        descend = partial(move, rows=rows, rate=rate, unit_norm=codes.unit_norm)
        value, running, (gradient, of_codes) = _gradients(
            method, params, state, table.codes[rows], images
        )
        table = descend(table, gradient=of_codes)
        if codes.alternate:
            value, running, (gradient, _) = _gradients(
                method, params, state, table.codes[rows], images
            )
    norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
    if method.clip:
        scale = jnp.minimum(1.0, method.clip / jnp.maximum(norm, 1e-12))
        gradient = jax.tree.map(lambda leaf: scale * leaf, gradient)
    updates, optimiser = method.optimiser.update(gradient, state.optimiser, state.params)
    moved = optax.apply_updates(state.params, updates)
    state = State(state.step + 1, moved, running, optimiser, table, state.losses + value)
    return state, (value, norm)


def _steps(method: Method, batch: int) -> tuple[Callable, Callable, Callable]:
    """`place(state)`, `deliver(rows, images)` and `advance(params, state, rows, images)`."""
    mesh = data_mesh(batch)
    spread, copied = spread_and_copied(mesh)
    batches = NamedSharding(mesh, PartitionSpec(None, "data"))
    each: list[Any] = [spread if field == "table" else copied for field in State._fields]
    shardings = State(*each)

    def place(state: State) -> State:
        return State(*map(jax.device_put, state, shardings))

    def deliver(rows: np.ndarray, images: np.ndarray) -> tuple[Array, Array]:
        return jax.device_put(rows, batches), jax.device_put(images, batches)

    # Said outright: the compiler might spread what must be copied, and compile again for that.
    @partial(jax.jit, donate_argnums=1, out_shardings=(shardings, copied))
    def advance(params: Params, state: State, rows: Array, images: Array) -> tuple[State, Any]:
        if len(rows) == 1:
            state, measured = _step(method, params, state, rows[0], images[0])
            return state, jax.tree.map(lambda leaf: leaf[None], measured)
        return jax.lax.scan(lambda s, b: _step(method, params, s, *b), state, (rows, images))

    return place, deliver, advance


# --- The loop ------------------------------------------------------------------------------


def batch_rows(count: int, schedule: Schedule, step: int) -> np.ndarray:
    """Which images a step takes: [batch], of the epoch's own permutation of `count`."""
    epoch, part = divmod(step, count // schedule.batch)
    order = np.random.default_rng([schedule.seed, epoch]).permutation(count)
    return order[part * schedule.batch : (part + 1) * schedule.batch].astype(np.int32)


def check_batches(images: int, batch: int, microbatches: int) -> None:
    """Raises an `InputError` if the images do not fill a batch, or the parts do not divide it."""
    if images < batch:
        raise InputError(
            f"{images} images to learn from do not fill a batch of {batch}: "
            "give more images or a smaller --batch"
        )
    if batch % microbatches or batch == microbatches:
        raise InputError(
            f"--microbatches must divide --batch into parts of at least two images; got "
            f"{microbatches} of {batch}"
        )


def train(
    method: Method,
    images: np.ndarray,
    schedule: Schedule,
    *,
    key: Key,
    label: Mapping[str, str],
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
    table: Callable[[Key], CodeTable] | None = None,
    snapshot: Callable[[int, State], dict[str, Any]] = lambda step, state: {},
) -> Trained:
    """Trains, from the last checkpoint if there is one.

    Args:
      method: what is trained.
      images: uint8 [n, h, w, 3], at least a batch of them.
      schedule: when things happen.
      key: of the distance's and the network's random draws.
      label: names this training among those of the run, in metrics.jsonl and in checkpoints.
      folder: the run's.
      asked_to_stop: whether to save and stop.
      table: `key -> ` the first codes, where they are learned.
      snapshot: `(step, state) -> ` what else to log; it may draw.

    Raises:
      InputError: if the loss or its gradient is no longer finite, naming the step; the last
        checkpoint from before is kept.
      Interrupted: when asked to stop, after saving.
    """
    title, count = " ".join(label.values()), len(images)
    steps, every = schedule.steps(count), schedule.snapshot_every
    place, deliver, advance = _steps(method, schedule.batch)
    params = replicate(method.distance.init(jax.random.fold_in(key, 0)), schedule.batch)
    state = place(_first_state(method, jax.random.fold_in(key, 1), table))
    saved = folder.path / "checkpoints" / file_name(title)
    step = checkpoint.latest_step(saved) or 0
    if step:
        state = checkpoint.restore(saved, step, state)
    sound = step
    metrics = folder.forget_after(step, label)
    pending: list[Any] = []
    # Of images, so that the rate is in images a second.
    total, done = steps * schedule.batch, step * schedule.batch
    with progress(title, total, unit="images", done=done) as advance_bar:
        while step < steps:
            length = min(chunk_length(), steps - step, every - step % every)
            rows = np.stack([batch_rows(count, schedule, step + i) for i in range(length)])
            state, measured = advance(params, state, *deliver(rows, images[rows]))
            if pending:  # One chunk ahead of the devices, and no more.
                jax.block_until_ready(pending[-1])
            pending.append(measured)
            step += length
            stopping = asked_to_stop()
            if step % every == 0 or step == steps or stopping:
                _check_finite(title, pending, step, sound, saved)
                pending = []
                since = step - (step - 1) // every * every
                line = {
                    **label,
                    "step": step,
                    "epoch": step / (count // schedule.batch),
                    "loss": float(state.losses) / since,
                    **snapshot(step, state),
                }
                if step % every == 0:
                    zero = jax.device_put(np.zeros((), np.float32), state.losses.sharding)
                    state = state._replace(losses=zero)
                # The line first: one too many is dropped on resuming, one too few is lost.
                folder.log(**line)
                metrics.append(line)
                checkpoint.save(saved, step, state)
                sound = step
            advance_bar(length * schedule.batch)
            if stopping:
                raise Interrupted(
                    f"stopped at step {step} of {steps} of {title}; "
                    f"go on with: {folder.resume_command}"
                )
    return Trained(jax.device_get(state), metrics)


def _first_state(method: Method, key: Key, table: Callable[[Key], CodeTable] | None) -> State:
    params, running = method.network.init(jax.random.fold_in(key, 0))
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        running=running,
        optimiser=method.optimiser.init(params),
        table=() if table is None else table(jax.random.fold_in(key, 1)),
        losses=jnp.zeros(()),
    )


def _check_finite(title: str, measured: list[Any], step: int, sound: int, saved: Any) -> None:
    """Raises where a loss or a gradient's norm is not finite: step says which the last one is."""
    losses, norms = (np.concatenate([np.asarray(m[i]) for m in measured]) for i in range(2))
    bad = np.flatnonzero(~(np.isfinite(losses) & np.isfinite(norms)))
    if len(bad) == 0:
        return
    at = step - len(losses) + int(bad[0]) + 1
    what = "gradient" if np.isfinite(losses[bad[0]]) else "loss"
    kept = f"the checkpoint of step {sound} is kept in {saved}" if sound else "nothing was saved"
    raise InputError(
        f"{title}: the {what} is not finite at step {at}; {kept}; "
        "try a smaller --learning-rate or a --clip"
    )
