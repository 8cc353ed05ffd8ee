"""A table of learned codes, one an image, of which a step moves only the rows of its batch.

Every row has an Adam of its own: its moments and how often it was moved. A row that a step does
not use stays as it is, moments too, so that a step costs what its batch costs, not what the table
does.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from perceptual_jax._typing import Array, Float, Key

__all__ = ["CodeTable", "code_table", "move", "not_yet_moved"]

_BETAS, _EPSILON = (0.5, 0.999), 1e-8


class CodeTable(NamedTuple):
    """Codes and their moments, spread over the devices by rows.

    Attributes:
      codes: [rows, c].
      mean: of the gradients, [rows, c].
      square: of the gradients' squares, [rows, c].
      moved: how often each row was, [rows].
    """

    codes: Array
    mean: Array
    square: Array
    moved: Array


def code_table(
    key: Key, count: int, size: int, *, deviation: float, multiple: int, unit_norm: bool = False
) -> CodeTable:
    """A table of codes drawn from a normal distribution.

    Args:
      key: of the draws.
      count: of the codes.
      size: of a code.
      deviation: of each of its numbers.
      multiple: of rows, of which some at the end are never used: as many as a mesh divides.
      unit_norm: whether codes are scaled to length 1.

    Returns:
      The table, of at least `count` rows.
    """
    codes = deviation * jax.random.normal(key, (count, size))
    codes = jnp.pad(_unit(codes) if unit_norm else codes, ((0, -count % multiple), (0, 0)))
    return not_yet_moved(codes)


def not_yet_moved(codes: Float[Array, "rows c"]) -> CodeTable:
    """A table that begins with these codes."""
    # Arrays of their own: a step gives each of them up.
    return CodeTable(
        jnp.array(codes),
        jnp.zeros(codes.shape),
        jnp.zeros(codes.shape),
        jnp.zeros(len(codes), jnp.int32),
    )


def move(
    table: CodeTable,
    rows: Array,
    gradient: Float[Array, "b c"],
    rate: Array | float,
    *,
    unit_norm: bool = False,
) -> CodeTable:
    """One step of Adam, with the betas (.5, .999) of DCGAN, on some rows.

    Args:
      table: all codes.
      rows: which to move, [b] integers, all different.
      gradient: in their codes.
      rate: the learning rate.
      unit_norm: whether codes are scaled to length 1 afterwards.

    References:
      D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015,
      https://arxiv.org/abs/1412.6980
    """
    first, second = _BETAS
    mean = first * table.mean[rows] + (1 - first) * gradient
    square = second * table.square[rows] + (1 - second) * jnp.square(gradient)
    moved = table.moved[rows] + 1
    times = moved.astype(gradient.dtype)[:, None]
    whole_mean, whole_square = mean / (1 - first**times), square / (1 - second**times)
    codes = table.codes[rows] - rate * whole_mean / (jnp.sqrt(whole_square) + _EPSILON)
    new = CodeTable(_unit(codes) if unit_norm else codes, mean, square, moved)
    return jax.tree.map(lambda old, row: old.at[rows].set(row, unique_indices=True), table, new)


def _unit(codes: Array) -> Array:
    return codes / jnp.linalg.norm(codes, axis=1, keepdims=True)
