"""The devices of a run as one data-parallel mesh."""

from __future__ import annotations

import math
from typing import TypeVar

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

__all__ = ["replicate", "shard_leading"]

T = TypeVar("T")


def shard_leading(tree: T, count: int) -> T:
    """Spreads arrays over the devices along their leading axis.

    Args:
      tree: a pytree of arrays whose leading axis is a multiple of `count`; scalars are copied.
      count: the number of independent problems.

    Returns:
      The tree, on as many devices as divide `count`.
    """
    devices = math.gcd(count, jax.device_count())
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    spread, copied = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    return jax.tree.map(lambda leaf: jax.device_put(leaf, spread if leaf.ndim else copied), tree)


def replicate(tree: T, count: int | None = None) -> T:
    """Copies arrays to every device of this process, or to those that share `count` problems."""
    if count is None:
        devices = jax.local_devices()[: jax.local_device_count()]
    else:
        devices = jax.devices()[: math.gcd(count, jax.device_count())]
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
