"""What is trained and how, and one step of it: pure functions.

A network is given inputs and makes something, which a loss compares with what was wanted. The loss
is a distance, or anything of a distance's form. The inputs may be codes that are learned as well;
another network may be trained in turns with it to tell what it makes from what was wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from experiments.common.code_table import move
from experiments.common.generators import Network
from perceptual_jax._typing import Array, Key, Params, Terms

__all__ = ["Adversary", "Batch", "Codes", "Loss", "Method", "Opponent", "State", "take_step"]


class Opponent(NamedTuple):
    """Where the training of an adversary is.

    Attributes:
      params: of its network.
      running: what its network carries from step to step.
      optimiser: the optimiser's state.
    """

    params: Any
    running: Any
    optimiser: Any


class State(NamedTuple):
    """Where training is.

    Attributes:
      step: how many were taken.
      params: of the networks.
      running: their running averages.
      optimiser: the optimiser's state.
      table: a `CodeTable`, where codes are learned; else ().
      losses: sums since the last snapshot that was due, of the loss and of what is logged of it.
      opponent: an `Opponent`, where there is an adversary; else ().
    """

    step: Array
    params: Any
    running: Any
    optimiser: Any
    table: Any
    losses: dict[str, Array]
    opponent: Any = ()


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


class Loss(Protocol):
    """What a network is trained under: a `Distance`, or what has its form.

    A distance is of what a network makes and of the images that were wanted. Others may want
    something else: a mask beside them, or nothing, where a style is among their params.
    """

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def init(self) -> Callable[[Key], Params]:
        """`key -> params`, which are never trained."""

    def __call__(self, params: Params, made: Any, wanted: Any, /) -> Array:
        """One number for each of what was made, [n]."""

    def terms(self, params: Params, made: Any, wanted: Any, /) -> Terms:
        """Its named parts, each [n], which add up to it; asked for where some are logged."""


class Adversary(NamedTuple):
    """Another network, which learns to tell what is made from the images that were wanted.

    It answers with logits [n, ...], high for what it takes for wanted. The loss of the first
    network gains the mean softplus of their negatives; then the other takes a step of its own,
    under the logistic loss, on the same images.

    Attributes:
      network: images to logits.
      optimiser: its own.
      weight: of what it adds to the loss.

    References:
      I. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014,
      https://arxiv.org/abs/1406.2661
    """

    network: Network
    optimiser: optax.GradientTransformation
    weight: float


class Method(NamedTuple):
    """What is trained, and how.

    Attributes:
      network: of what batches give it: images, say; or of codes where these are learned.
      distance: between what it makes and what is wanted: a distance, or another `Loss`.
      optimiser: of the network.
      codes: how they are learned; None for a network that takes what batches give it.
      clip: the greatest norm of the network's gradient, which is scaled down to it; 0 for any.
      microbatches: how many parts of a batch are taken one after the other, each with statistics
        of its own, to save memory.
      terms: which parts of the distance are logged beside it.
      adversary: of the network, if there is one.
    """

    network: Network
    distance: Loss
    optimiser: optax.GradientTransformation
    codes: Codes | None = None
    clip: float = 0.0
    microbatches: int = 1
    terms: tuple[str, ...] = ()
    adversary: Adversary | None = None

    @property
    def logged(self) -> tuple[str, ...]:
        """The names of what is logged: the loss, and what else."""
        opponents = ("adversary", "opponent") if self.adversary else ()
        return ("loss", *self.terms, *opponents)


class Batch(NamedTuple):
    """What a step takes: arrays, or trees of them, [n, ...]; of bytes it takes 255ths.

    Attributes:
      inputs: what the network is given.
      wanted: what the loss compares with what it makes.
    """

    inputs: Any
    wanted: Any


# --- The step ------------------------------------------------------------------------------


class _Found(NamedTuple):
    """What a batch gives.

    Attributes:
      logged: the loss and what is logged of it, means over the batch.
      running: the network's running averages.
      gradient: in the network.
      of_inputs: in its inputs, where these are codes; else ().
      made: what the network made, where an adversary is to see it; else ().
    """

    logged: dict[str, Array]
    running: Any
    gradient: Any
    of_inputs: Any
    made: Any


def _value(
    method: Method, params: Params, opponent: Any, made: Any, wanted: Any
) -> dict[str, Array]:
    """The loss, and what is logged of it."""
    logged = {}
    if method.terms:
        parts = {
            name: part.mean() for name, part in method.distance.terms(params, made, wanted).items()
        }
        logged = {name: parts[name] for name in method.terms}
        loss = sum(parts.values(), jnp.zeros(()))
    else:
        loss = method.distance(params, made, wanted).mean()
    if method.adversary is not None:
        network, _, weight = method.adversary
        logits, _ = network.train(opponent.params, opponent.running, made)
        logged["adversary"] = weight * jax.nn.softplus(-logits).mean()
        loss += logged["adversary"]
    return {"loss": loss, **logged}


def _gradients(method: Method, params: Params, state: State, inputs: Any, wanted: Any) -> _Found:
    """The loss and its gradients, part by part of the batch."""

    def loss(trained: Any, inputs: Any, running: Any, wanted: Any) -> tuple[Array, Any]:
        made, running = method.network.train(trained, running, inputs)
        logged = _value(method, params, state.opponent, made, wanted)
        return logged["loss"], (logged, running, made if method.adversary else ())

    def found(inputs: Any, running: Any, wanted: Any) -> _Found:
        # Inputs that are not learned need not have a gradient: they may be integers.
        learned = (0, 1) if method.codes else (0,)
        gradients, aux = jax.grad(loss, argnums=learned, has_aux=True)(
            state.params, inputs, running, wanted
        )
        logged, running, made = aux
        return _Found(logged, running, gradients[0], gradients[1] if method.codes else (), made)

    parts = method.microbatches
    if parts == 1:
        return found(inputs, state.running, wanted)

    def one(carry: tuple, part: tuple) -> tuple:
        (logged, total), running = carry
        more = found(part[0], running, part[1])
        added = jax.tree.map(jnp.add, (logged, total), (more.logged, more.gradient))
        return (added, more.running), (more.of_inputs, more.made)

    def split(array: Array) -> Array:
        # Every part has images of every device.
        return array.reshape(len(array) // parts, parts, *array.shape[1:]).swapaxes(0, 1)

    def joined(array: Array) -> Array:
        return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])

    names = [name for name in method.logged if name != "opponent"]
    none = ({name: jnp.zeros(()) for name in names}, jax.tree.map(jnp.zeros_like, state.params))
    scanned: Any = jax.lax.scan(one, (none, state.running), jax.tree.map(split, (inputs, wanted)))
    (sums, running), by_part = scanned
    of_inputs, made = jax.tree.map(joined, by_part)
    logged, gradient, of_inputs = jax.tree.map(lambda leaf: leaf / parts, (*sums, of_inputs))
    return _Found(logged, running, gradient, of_inputs, made)


def _opposed(
    adversary: Adversary, opponent: Opponent, made: Array, wanted: Array
) -> tuple[Opponent, Array]:
    """A step of the adversary; also its loss."""

    def loss(params: Any) -> tuple[Array, Any]:
        of_wanted, running = adversary.network.train(params, opponent.running, wanted)
        of_made, running = adversary.network.train(params, running, made)
        value = jax.nn.softplus(-of_wanted).mean() + jax.nn.softplus(of_made).mean()
        return value, running

    (value, running), gradient = jax.value_and_grad(loss, has_aux=True)(opponent.params)
    updates, optimiser = adversary.optimiser.update(gradient, opponent.optimiser, opponent.params)
    return Opponent(optax.apply_updates(opponent.params, updates), running, optimiser), value


def _floats(leaf: Array) -> Array:
    return leaf.astype(jnp.float32) / 255 if leaf.dtype == jnp.uint8 else leaf


def take_step(
    method: Method, params: Params, state: State, rows: Any, batch: Any
) -> tuple[State, tuple[Array, Array]]:
    """One step.

    Args:
      method: what is trained.
      params: of its distance.
      state: before the step.
      rows: of the codes that are the batch's, [n], where codes are learned.
      batch: a `Batch`; or images that are given and wanted.

    Returns:
      The state after it; and the loss, and the norm of the network's gradient.
    """
    inputs, wanted = jax.tree.map(_floats, batch if isinstance(batch, Batch) else (batch, batch))
    codes, table = method.codes, state.table
    if codes is None:
        found = _gradients(method, params, state, inputs, wanted)
    else:
        rate = codes.learning_rate(state.step)
        descend = partial(move, rows=rows, rate=rate, unit_norm=codes.unit_norm)
        found = _gradients(method, params, state, table.codes[rows], wanted)
        table = descend(table, gradient=found.of_inputs)
        if codes.alternate:
            found = _gradients(method, params, state, table.codes[rows], wanted)
    gradient, logged, opponent = found.gradient, found.logged, state.opponent
    norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
    if method.clip:
        scale = jnp.minimum(1.0, method.clip / jnp.maximum(norm, 1e-12))
        gradient = jax.tree.map(lambda leaf: scale * leaf, gradient)
    updates, optimiser = method.optimiser.update(gradient, state.optimiser, state.params)
    moved = optax.apply_updates(state.params, updates)
    if method.adversary is not None:
        opponent, logged["opponent"] = _opposed(method.adversary, opponent, found.made, wanted)
    losses = {name: state.losses[name] + logged[name] for name in method.logged}
    state = State(state.step + 1, moved, found.running, optimiser, table, losses, opponent)
    return state, (logged["loss"], norm)
