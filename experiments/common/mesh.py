"""Devices as one data-parallel mesh: those of this process, or of all processes of a run."""

from __future__ import annotations

import math
from typing import TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = ["data_mesh", "replicate", "shard_leading", "spread_and_copied"]

T = TypeVar("T")


def data_mesh(count: int, *, everywhere: bool = False) -> Mesh:
    """As many devices as divide the number of independent problems, along one axis, "data".

    Args:
      count: of the problems.
      everywhere: whether devices of other processes take part.
    """
    there = jax.device_count() if everywhere else jax.device_count() // jax.process_count()
    used = math.gcd(count, there)
    devices = (jax.devices() if everywhere else jax.local_devices())[:used]
    return jax.make_mesh((used,), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def spread_and_copied(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """On a mesh of `data_mesh`: arrays spread along their leading axis, and copied everywhere."""
    return NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())


def shard_leading(tree: T, count: int) -> T:
    """Spreads arrays over the devices along their leading axis.

    Args:
      tree: a pytree of arrays whose leading axis is a multiple of `count`; scalars are copied.
      count: the number of independent problems.

    Returns:
      The tree, on as many devices as divide `count`.
    """
    spread, copied = spread_and_copied(data_mesh(count))
    return jax.tree.map(lambda leaf: jax.device_put(leaf, spread if leaf.ndim else copied), tree)


def replicate(tree: T, count: int | None = None) -> T:
    """Copies arrays to every device of this process, or to those that share `count` problems."""
    if count is not None:
        return jax.device_put(tree, spread_and_copied(data_mesh(count))[1])
    devices = jax.local_devices()[: jax.local_device_count()]
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
