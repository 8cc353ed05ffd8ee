"""Images as the unknowns: descent on any loss, many problems side by side.

The problems are the leading axis. Adam works on each number by itself, and L-BFGS on each problem
by itself, so a batch of problems gives what each would give alone.

A loss is `(context, images [s, h, w, 3]) -> [s]`, or `-> {term: [s]}` to have its terms logged;
problem i must depend on image i alone. A context is a pair: what all problems share (a network),
and what each has for itself (its embedded targets), leaves with leading axis s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import checkpoint, hosts
from experiments.common.loop import Interrupted, chunk_length
from experiments.common.mesh import data_mesh, shard_leading, spread_and_copied
from experiments.common.progress import progress
from experiments.common.run_folder import RunFolder, file_name
from perceptual_jax._typing import Array
from perceptual_jax.errors import InputError

__all__ = [
    "Bounds",
    "Descent",
    "Found",
    "Problem",
    "Schedule",
    "State",
    "adam_descent",
    "coarse_to_fine",
    "descend",
    "lbfgs_descent",
    "scales",
]

Bounds = Literal["clip", "sigmoid", "none"]
"""How images stay in [0, 1]: clipped after each step, the sigmoid of the unknowns, not at all."""

Loss = Callable[[Any, Array], Any]


class State(NamedTuple):
    """Where a descent is.

    Attributes:
      unknowns: [s, h, w, 3], what the optimiser moves: images, or what images are made of.
      optimiser: the optimiser's state.
    """

    unknowns: Array
    optimiser: Any


class Descent(NamedTuple):
    """A descent as pure functions.

    Attributes:
      init: `images [s, h, w, 3] -> State`.
      advance: `(context, state, length) -> state`, jitted, `length` steps in one call; the state
        given is used up. `context` is what the loss needs besides the images.
      losses: `(context, state) -> ` what the loss gives, jitted: how far it has come.
      images: `state -> [s, h, w, 3]`, what it has found.
    """

    init: Callable[[Array], State]
    advance: Callable[[Any, State, int], State]
    losses: Callable[[Any, State], Any]
    images: Callable[[State], Array]


# --- The two descents ----------------------------------------------------------------------


def adam_descent(
    loss: Loss,
    *,
    learning_rate: float,
    decay: float = 0.9,
    decay_every: int = 1000,
    bounds: Bounds = "clip",
) -> Descent:
    """Adam on images in [0, 1].

    Args:
      loss: see the module.
      learning_rate: of the first steps.
      decay: what it is multiplied by every `decay_every` steps.
      decay_every: in steps.
      bounds: how the images stay in [0, 1].

    Returns:
      The descent.
    """
    schedule = optax.exponential_decay(learning_rate, decay_every, decay, staircase=True)
    optimiser = optax.adam(schedule)

    def step(context: Any, state: State) -> State:
        # The gradient alone: with the losses beside it, XLA writes out every difference of
        # features, and a VGG step on 6 targets of 128 px takes 117 ms instead of 103.
        gradient = jax.grad(lambda unknowns: _total(loss, context, unknowns, bounds).sum())(
            state.unknowns
        )
        updates, optimiser_state = optimiser.update(gradient, state.optimiser)
        unknowns = optax.apply_updates(state.unknowns, updates)
        if bounds == "clip":
            unknowns = jnp.clip(unknowns, 0.0, 1.0)
        return State(unknowns, optimiser_state)

    return _descent(loss, step, optimiser.init, bounds)


_LINE_SEARCH_STEPS = 20


def lbfgs_descent(loss: Loss, *, memory: int = 10, bounds: Bounds = "none") -> Descent:
    """L-BFGS with a line search that meets the strong Wolfe conditions; no rate to choose.

    Each problem has a history and a line search of its own. The context must stay the same from
    step to step.

    Args:
      loss: see the module.
      memory: how many steps make its model of the curvature.
      bounds: "none" or "sigmoid"; a clipped step is not the one that was searched along.

    Returns:
      The descent.
    """
    if bounds == "clip":
        raise InputError("L-BFGS takes the bounds 'none' or 'sigmoid', not 'clip'")
    line_search = optax.scale_by_zoom_linesearch(
        max_linesearch_steps=_LINE_SEARCH_STEPS, initial_guess_strategy="one"
    )
    optimiser = optax.lbfgs(memory_size=memory, linesearch=line_search)

    def step(context: Any, state: State) -> State:
        shared, own = context

        def alone(own: Any, state: State) -> State:
            def value(unknowns: Array) -> Array:
                context = (shared, jax.tree.map(lambda leaf: leaf[None], own))
                return _total(loss, context, unknowns[None], bounds)[0]

            now, slope = optax.value_and_grad_from_state(value)(
                state.unknowns, state=state.optimiser
            )
            updates, optimiser_state = optimiser.update(
                slope, state.optimiser, state.unknowns, value=now, grad=slope, value_fn=value
            )
            return State(optax.apply_updates(state.unknowns, updates), optimiser_state)

        return jax.vmap(alone)(own, state)

    return _descent(loss, step, jax.vmap(optimiser.init), bounds)


def _descent(
    loss: Loss,
    step: Callable[[Any, State], State],
    init: Callable[[Array], Any],
    bounds: Bounds,
) -> Descent:
    @partial(jax.jit, static_argnums=2, donate_argnums=1)
    def advance(context: Any, state: State, length: int) -> State:
        if length == 1:
            return step(context, state)
        return jax.lax.scan(lambda s, _: (step(context, s), None), state, length=length)[0]

    @jax.jit
    def losses(context: Any, state: State) -> Any:
        return loss(context, _pixels(state.unknowns, bounds))

    def started(images: Array) -> State:
        # A copy, since the first step uses the state up and the images are the caller's.
        unknowns = _logit(images) if bounds == "sigmoid" else jnp.array(images)
        return State(unknowns, init(unknowns))

    return Descent(started, advance, losses, lambda state: _pixels(state.unknowns, bounds))


def _total(loss: Loss, context: Any, unknowns: Array, bounds: Bounds) -> Array:
    found = loss(context, _pixels(unknowns, bounds))
    return sum(found.values()) if isinstance(found, Mapping) else found  # type: ignore[return-value]


def _pixels(unknowns: Array, bounds: Bounds) -> Array:
    return jax.nn.sigmoid(unknowns) if bounds == "sigmoid" else unknowns


def _logit(images: Array) -> Array:
    """Of images a little inside of [0, 1]: black and white are at infinity, and do not move."""
    inside = jnp.clip(images, 0.01, 0.99)
    return jnp.log(inside) - jnp.log1p(-inside)


# --- The loop ------------------------------------------------------------------------------


class Problem(NamedTuple):
    """What is sought.

    Attributes:
      descent: on the loss.
      context: `draw -> (shared, own)`; called once, and again where random features are redrawn,
        with 0, 1, 2, ...
    """

    descent: Descent
    context: Callable[[int], tuple[Any, Any]]


class Schedule(NamedTuple):
    """When things happen, in steps.

    Attributes:
      steps: how many there are.
      snapshot_every: a checkpoint is saved and a line logged.
      redraw_every: the context is made anew; 0 keeps the first.
      begun: how many were taken before, at other scales; logged steps count on from there.
    """

    steps: int
    snapshot_every: int
    redraw_every: int = 0
    begun: int = 0

    def next_chunk(self, step: int) -> int:
        """How many steps until something happens outside of jit, at most a chunk."""
        ends = [
            chunk_length(),
            self.steps - step,
            self.snapshot_every - step % self.snapshot_every,
        ]
        if self.redraw_every:
            ends.append(self.redraw_every - step % self.redraw_every)
        return min(ends)


class Found(NamedTuple):
    """What a descent ends with.

    Attributes:
      images: [s, h, w, 3].
      metrics: the lines logged on the way, from before it was resumed too.
      seconds_per_step: the median over the stretches between snapshots; NaN if there were none.
    """

    images: np.ndarray
    metrics: list[dict[str, Any]]
    seconds_per_step: float


def descend(
    problem: Problem,
    first: Array,
    schedule: Schedule,
    *,
    label: Mapping[str, str],
    folder: RunFolder,
    asked_to_stop: Callable[[], bool],
    title: str = "",
    snapshot: Callable[[int, Array], dict[str, Any]] = lambda step, images: {},
) -> Found:
    """Takes the steps of a schedule, from the last checkpoint if there is one.

    The problems are spread over the processes, and there over the devices. A resumed descent equals
    an unbroken one bit for bit.

    Args:
      problem: what is sought.
      first: where to start: [s, h, w, 3] in [0, 1].
      schedule: when things happen.
      label: names this descent among those of the run, in metrics.jsonl and in checkpoints.
      folder: the run's.
      asked_to_stop: whether to save and stop.
      title: its name for people; by default the label.
      snapshot: `(step, images) -> ` what else to log; it may draw.

    Raises:
      InputError: if the loss is no longer finite.
      Interrupted: when asked to stop, after saving.
    """
    title = title or " ".join(label.values())
    descent, count = problem.descent, len(first)
    mine = hosts.own_rows(count)
    state = shard_leading(descent.init(jnp.asarray(first)[mine]), len(mine))
    saved = folder.shared / "checkpoints" / file_name(" ".join(label.values()))
    step, found = checkpoint.restore_latest(saved, _whole(state, count))
    if step:
        state = _own(found, mine)
    metrics = folder.forget_after(schedule.begun + step, label)

    context, drawn = None, -1
    clock = _Clock(step)
    with progress(title, schedule.steps, done=step) as advance_bar:
        while step < schedule.steps:
            draw = step // schedule.redraw_every if schedule.redraw_every else 0
            if draw != drawn:
                shared, own = problem.context(draw)
                context, drawn = (shared, _own(own, mine)), draw
            length = schedule.next_chunk(step)
            state = descent.advance(context, state, length)
            step += length
            stopping = asked_to_stop()
            if step % schedule.snapshot_every == 0 or step == schedule.steps or stopping:
                clock.stop(step, state)
                at = schedule.begun + step
                losses = _numbers(hosts.whole_rows(descent.losses(context, state), count))
                images = hosts.whole_rows(descent.images(state), count)
                line = {**label, "step": at, **losses, **snapshot(at, images)}
                if not np.isfinite(line["loss"]).all():
                    raise InputError(
                        f"{title}: the loss is not finite at step {at}; "
                        "try a smaller --learning-rate"
                    )
                # The line first: one too many is dropped on resuming, one too few is lost.
                folder.log(**line)
                metrics.append(line)
                checkpoint.save(saved, step, _whole(state, count))
                clock.start(step)
            advance_bar(length)
            if stopping:
                raise Interrupted(
                    f"stopped at step {step} of {schedule.steps} of {title}; "
                    f"go on with: {folder.resume_command}"
                )
    images = hosts.whole_rows(descent.images(state), count)
    return Found(np.asarray(images), metrics, clock.seconds_per_step())


def _whole(state: State, count: int) -> State:
    """The state of all processes' problems, as one to save."""
    if not hosts.several():
        return state
    copied = spread_and_copied(data_mesh(jax.device_count(), everywhere=True))[1]
    return hosts.placed(hosts.whole_rows(state, count), copied)


def _own(tree: Any, mine: np.ndarray) -> Any:
    """Of all problems' arrays those of this process, on its devices."""
    if hosts.several():
        host = hosts.on_host(tree)
        tree = jax.tree.map(lambda leaf: jnp.asarray(leaf[mine] if leaf.ndim else leaf), host)
    return shard_leading(tree, len(mine))


def _numbers(losses: Any) -> dict[str, Any]:
    """What a line says of the losses: of each problem, and of each of its terms."""
    if not isinstance(losses, Mapping):
        return {"loss": np.asarray(losses, np.float64).tolist()}
    terms = {term: np.asarray(values, np.float64) for term, values in losses.items()}
    return {
        "loss": sum(terms.values()).tolist(),  # type: ignore[union-attr]
        "terms": {term: values.tolist() for term, values in terms.items()},
    }


class _Clock:
    """Seconds per step, without what snapshots take; the first stretch compiles."""

    def __init__(self, step: int):
        self._stretches: list[float] = []
        self.start(step)

    def start(self, step: int) -> None:
        self._step, self._begun = step, time.perf_counter()

    def stop(self, step: int, state: State) -> None:
        state.unknowns.block_until_ready()
        seconds = time.perf_counter() - self._begun
        self._stretches.append(seconds / (step - self._step))

    def seconds_per_step(self) -> float:
        counted = self._stretches[1:] or self._stretches
        return float(np.median(counted)) if counted else float("nan")


# --- Coarse to fine ------------------------------------------------------------------------


def scales(size: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Sizes that double up to a size, the coarsest first: with 3, a quarter, a half, the whole."""
    return [
        (round(size[0] / 2**level), round(size[1] / 2**level)) for level in reversed(range(count))
    ]


def coarse_to_fine(
    problem_at: Callable[[tuple[int, int]], Problem],
    first: Array,
    sizes: Sequence[tuple[int, int]],
    schedule: Schedule,
    *,
    label: Mapping[str, str],
    title: str = "",
    **options: Any,
) -> Found:
    """Descends at each size in turn, from what was found at the one before, enlarged.

    Coarse steps are cheap and move what is large. The steps are shared equally by the sizes; the
    label, and so each checkpoint's folder, says which size it is of.

    Args:
      problem_at: `(height, width) -> Problem`.
      first: where to start, [s, h, w, 3], of any size.
      sizes: (height, width) of each scale.
      schedule: of all scales together.
      label: see `descend`.
      title: likewise.
      options: likewise.

    Returns:
      What was found at the last size; metrics are of all, seconds per step of the last.
    """
    if len(sizes) == 1:
        problem = problem_at(sizes[0])
        first = _resized(jnp.asarray(first), sizes[0])
        return descend(problem, first, schedule, label=label, title=title, **options)
    ends = [schedule.steps * (k + 1) // len(sizes) for k in range(len(sizes))]
    images, metrics, begun = jnp.asarray(first), [], schedule.begun
    for size, steps in zip(sizes, np.diff([0, *ends]).tolist(), strict=True):
        images = _resized(images, size)
        scale = f"{size[1]}x{size[0]}"
        found = descend(
            problem_at(size),
            images,
            schedule._replace(steps=steps, begun=begun),
            label={**label, "scale": scale},
            title=f"{title or ' '.join(label.values())} {scale}",
            **options,
        )
        images, begun = jnp.asarray(found.images), begun + steps
        metrics += found.metrics
    return found._replace(metrics=metrics)


def _resized(images: Array, size: tuple[int, int]) -> Array:
    resized = jax.image.resize(images, (images.shape[0], *size, images.shape[3]), "cubic")
    return jnp.clip(resized, 0.0, 1.0)
