"""Trainings of one network under several losses, all of which begin with the same one, under l1.

What is right on average comes first, for it is quickly learned; a loss that asks for what looks
right goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import perceptual_jax as pj
from experiments.common import network_files
from experiments.common.generators import Network
from experiments.common.losses import Sum, say_weights, weighed
from experiments.common.network_files import Kind, Saved
from experiments.common.run_folder import RunFolder
from experiments.common.training import Adversary, Batch, Method, Schedule, Source, train

__all__ = ["FIRST", "Outcome", "Plan", "Staged", "plan_of"]

FIRST = "l1"
"""The loss that all others begin with."""


class Plan(NamedTuple):
    """How long, and how fast.

    Attributes:
      steps: under l1.
      further_steps: under each other loss, from there.
      learning_rate: of Adam, under l1; it falls to 0 along half a cosine.
      further_learning_rate: and under each other loss.
      batch: how many images a step under l1 takes.
      further_batch: and under each other loss, whose networks cost more than the one that learns.
      clip: the greatest norm of a gradient, which is scaled down to it; 0 for any.
      snapshot_every: in steps: a checkpoint is saved and a line logged.
      seed: of all random draws.
    """

    steps: int
    further_steps: int
    learning_rate: float
    further_learning_rate: float
    batch: int
    further_batch: int
    clip: float
    snapshot_every: int
    seed: int


def plan_of(config: Any) -> Plan:
    """The options of those names."""
    return Plan(**{field: getattr(config, field) for field in Plan._fields})


class Outcome(NamedTuple):
    """What training under one loss came to.

    Attributes:
      loss: what it was, with its weights.
      params: what was trained.
      metrics: the lines logged on the way, with steps counted from the first one under l1.
    """

    loss: str
    params: Any
    metrics: list[dict[str, Any]]


class Staged:
    """The trainings; what they share is trained once."""

    def __init__(
        self,
        network: Network,
        take: Callable[[int, int], Batch],
        plan: Plan,
        *,
        untrained: Callable[[Any], Any],
        critic: Network,
        watch: Callable[[str, int, Any], dict[str, Any]],
        folder: RunFolder,
        asked_to_stop: Callable[[], bool],
    ):
        """Prepares them; nothing is trained yet.

        Args:
          network: without running averages.
          take: `(step, how many) -> Batch`, by these alone; other losses' steps go on counting.
          plan: how long, and how fast.
          untrained: what is made of a batch's inputs before training; weights are measured on it.
          critic: the adversary's network, where a loss has one.
          watch: `(loss, step, params) -> ` what else to log; it may draw.
          folder: the run's.
          asked_to_stop: whether to save and stop.
        """
        self._network, self._take, self._plan = network, take, plan
        self._untrained, self._critic, self._watch = untrained, critic, watch
        self._folder, self._asked_to_stop = folder, asked_to_stop
        self._begun: Outcome | None = None

    def under_each(self, sums: Sequence[Sum], kind: Kind, config: Any) -> dict[str, Outcome]:
        """What every loss comes to, by its name; its network is written into the run's folder.

        Args:
          sums: the losses.
          kind: of the network's file.
          config: the options that say what the network is built like.
        """
        outcomes = {}
        for total in sums:
            outcome = outcomes[total.name] = self.under(total)
            saved = Saved(total.name, kind.shape_of(config), outcome.params)
            network_files.write(self._folder.path, kind, saved)
        return outcomes

    def under(self, total: Sum) -> Outcome:
        """What a loss comes to."""
        if self._begun is None:
            plan = self._plan
            rate = optax.cosine_decay_schedule(plan.learning_rate, plan.steps)
            method = Method(self._network, pj.make(FIRST), optax.adam(rate), clip=plan.clip)
            self._begun = self._trained(method, FIRST, FIRST, plan.steps)
        if total.name == FIRST:
            return self._begun
        method, loss = self._further(total)
        outcome = self._trained(
            method,
            total.name,
            loss,
            self._plan.further_steps,
            after=self._plan.steps,
            first=self._begun.params,
        )
        return outcome._replace(metrics=[*self._begun.metrics, *outcome.metrics])

    def _further(self, total: Sum) -> tuple[Method, str]:
        """How it is trained from there; and its name, with its weights."""
        plan = self._plan
        inputs, wanted = (
            np.float32(1 / 255) * images for images in self._take(0, plan.further_batch)
        )
        distance = weighed(total, np.asarray(self._untrained(inputs)), wanted, seed=plan.seed)
        say_weights([total], [distance])
        rate = optax.cosine_decay_schedule(plan.further_learning_rate, plan.further_steps)
        method = Method(
            self._network,
            distance,
            optax.adam(rate),
            clip=plan.clip,
            terms=tuple(each.name for each in total.distances) if len(total.distances) > 1 else (),
        )
        if not total.adversary:
            return method, distance.name
        adversary = Adversary(self._critic, optax.adam(rate, b1=0.5), total.adversary)
        return (
            method._replace(adversary=adversary),
            f"{distance.name} + {total.adversary:g} * adversary",
        )

    def _trained(
        self,
        method: Method,
        name: str,
        loss: str,
        steps: int,
        *,
        after: int = 0,
        first: Any = None,
    ) -> Outcome:
        plan = self._plan
        batch = plan.further_batch if after else plan.batch
        state, metrics = train(
            method,
            Source(lambda step: self._take(after + step, batch)),
            Schedule(steps, batch, plan.snapshot_every, plan.seed),
            key=jax.random.fold_in(jax.random.key(plan.seed), 7),
            label={"under": name},
            folder=self._folder,
            asked_to_stop=self._asked_to_stop,
            first=None if first is None else (first, {}),
            snapshot=lambda step, state: self._watch(name, step, jax.device_get(state.params)),
        )
        return Outcome(
            loss, state.params, [{**line, "step": after + line["step"]} for line in metrics]
        )
