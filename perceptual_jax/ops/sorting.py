"""Sorting along the last axis, and how far apart two sorted samples are.

XLA's sort takes 641 ms for 256 x 14,884 numbers on two CPU cores, NumPy's vectorised one 11. So a
program for one CPU sorts float32 in NumPy; one for several devices, which must not gather what is
spread over them, for an accelerator or for export sorts in XLA. Which it will be is known only
when a program is lowered: hence primitives with a lowering for each. Both give the same numbers,
and the same order where numbers are equal.

What calls back into Python has Python's limits: JAX does not keep such a program in its persistent
cache, and a process that ends while one is still running aborts (wait for results:
`jax.block_until_ready`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from perceptual_jax._typing import Array
from perceptual_jax.ops.safe import safe_power

__all__ = ["sliced_difference", "sort_last"]


def sort_last(values: Array) -> Array:
    """Values sorted along the last axis, NaN last."""
    return _sort.bind(values)[0]


# --- In NumPy ------------------------------------------------------------------------------


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="perceptual-jax-sort")


_BLOCK = 2**16
"""Numbers to work on at a time: few enough to stay in the cache, and to need no large array, whose
fresh pages may take longer than the sort (60 x 128 x 3364 numbers: 80 ms, and up to 300)."""


def _by_rows(fill: Callable[..., None], dtypes: Sequence[Any], *operands: np.ndarray) -> tuple:
    """What `fill(*rows of operands, *rows of results)` makes of the last axis, on every core.

    NumPy lets go of Python while it sorts.
    """
    shape = operands[0].shape
    results = tuple(np.empty(shape, dtype) for dtype in dtypes)
    flat = [each.reshape(-1, shape[-1]) for each in (*operands, *results)]
    step = max(_BLOCK // max(shape[-1], 1), 1)
    starts = range(0, len(flat[0]), step)

    def some(starts: range) -> None:
        for start in starts:
            fill(*(each[start : start + step] for each in flat))

    cores = os.cpu_count() or 1
    for _ in _threads().map(some, (starts[core::cores] for core in range(cores))):
        pass
    return results


def _sort_in_numpy(rows: np.ndarray, results: np.ndarray) -> None:
    results[:] = rows
    results.sort(axis=-1)


def _sort_with_order_in_numpy(rows: np.ndarray, results: np.ndarray, orders: np.ndarray) -> None:
    """Also the places the values had, of equal ones in the order they came.

    A float32 and its place make one 64-bit integer, whose sort NumPy has vectorised: 39 ms where
    a stable argsort takes 234.
    """
    # One zero and one NaN, of the two and the many that there are.
    alike = np.where(np.isnan(rows), np.float32(np.nan), rows + np.float32(0))
    bits = alike.view(np.int32).astype(np.int64)
    keys = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits) << 32 | np.arange(rows.shape[-1])
    keys.sort(axis=-1)
    orders[:] = keys  # the lower half
    _take_in_numpy(rows, orders, results)


def _take_in_numpy(rows: np.ndarray, orders: np.ndarray, results: np.ndarray) -> None:
    np.take(rows, _places(orders), out=results, mode="clip")


def _put_in_numpy(rows: np.ndarray, orders: np.ndarray, results: np.ndarray) -> None:
    results.reshape(-1)[_places(orders)] = rows


def _places(orders: np.ndarray) -> np.ndarray:
    """In the rows laid end to end."""
    count, length = orders.shape
    return orders + np.arange(0, count * length, length)[:, None]


# --- In XLA --------------------------------------------------------------------------------


def _sort_with_order_in_xla(values: Array) -> tuple[Array, Array]:
    places = jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)
    ordered, order = jax.lax.sort((values, places), dimension=values.ndim - 1, num_keys=1)
    return ordered, order


def _take_in_xla(values: Array, order: Array) -> tuple[Array]:
    return (jnp.take_along_axis(values, order, axis=-1),)


def _put_in_xla(values: Array, order: Array) -> tuple[Array]:
    return (jnp.put_along_axis(jnp.zeros_like(values), order, values, axis=-1, inplace=False),)


# --- Primitives ----------------------------------------------------------------------------


def _may_call_back(context: mlir.LoweringRuleContext) -> bool:
    """Whether the program is float32's, for one device, in this process."""
    module = context.module_context
    return (
        # JAX reads the x64 flag of a callback's thread, not of the caller: float64 would be lost.
        context.avals_in[0].dtype == np.float32  # type: ignore[attr-defined]
        and getattr(module.axis_context, "num_devices", None) == 1
        and len(module.platforms) == 1
        and not module.lowering_parameters.for_export
    )


def _primitive(
    name: str,
    in_numpy: Callable[..., None],
    in_xla: Callable[..., tuple],
    *,
    with_order: bool = False,
) -> Primitive:
    """An operation along the last axis that keeps the shape, in two forms.

    Args:
      name: of the primitive.
      in_numpy: fills rows, for `_by_rows`.
      in_xla: of whole arrays, which it returns a tuple of.
      with_order: whether it also returns places, int32.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(partial(xla.apply_primitive, primitive))

    @primitive.def_abstract_eval
    def results(values: Any, *_: Any) -> list:
        return [values, values.update(dtype=np.dtype(np.int32))][: 1 + with_order]

    def batched(operands: Sequence[Array], axes: Sequence[int | None]) -> tuple:
        pairs = list(zip(operands, axes, strict=True))
        size = next(each.shape[axis] for each, axis in pairs if axis is not None)
        moved = (
            jnp.broadcast_to(each, (size, *each.shape))
            if axis is None
            else jnp.moveaxis(each, axis, 0)
            for each, axis in pairs
        )
        return primitive.bind(*moved), [0] * (1 + with_order)

    lowered_in_xla = mlir.lower_fun(in_xla, multiple_results=True)

    def lowered_on_cpu(context: mlir.LoweringRuleContext, *operands: Any) -> Any:
        if not _may_call_back(context):
            return lowered_in_xla(context, *operands)
        dtypes = [each.dtype for each in context.avals_out]
        # `jax.pure_callback` would put the operands on the device first, which waits for a
        # thread that another callback may hold.
        results, _, _ = mlir.emit_python_callback(
            context,
            partial(_by_rows, in_numpy, dtypes),
            None,
            list(operands),
            context.avals_in,  # type: ignore[arg-type]
            context.avals_out,
            has_side_effect=False,
        )
        return results

    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, lowered_in_xla)
    mlir.register_lowering(primitive, lowered_on_cpu, platform="cpu")
    return primitive


_sort = _primitive("sort", _sort_in_numpy, lambda values: (jnp.sort(values, axis=-1),))
_sort_with_order = _primitive(
    "sort_with_order", _sort_with_order_in_numpy, _sort_with_order_in_xla, with_order=True
)
_take = _primitive("take_in_order", _take_in_numpy, _take_in_xla)
_put = _primitive("put_in_order", _put_in_numpy, _put_in_xla)


# Sorting moves values, and derivatives with them; taking and putting undo each other.


def _sort_derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[list, list]:
    ordered, order = _sort_with_order.bind(*primals)
    return [ordered], _take.bind(*tangents, order)


def _sort_with_order_derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[list, list]:
    ordered, order = _sort_with_order.bind(*primals)
    no_tangent = ad.Zero(jax.typeof(order).to_tangent_aval())
    return [ordered, order], [*_take.bind(*tangents, order), no_tangent]


def _moved(primitive: Primitive, primals: tuple, tangents: tuple) -> tuple[list, list]:
    """The derivative of one that is linear in the values."""
    order = primals[1]
    return primitive.bind(*primals), primitive.bind(tangents[0], order)


def _moved_back(inverse: Primitive, cotangents: list, _: Any, order: Array) -> list:
    return [*inverse.bind(cotangents[0], order), None]


ad.primitive_jvps[_sort] = _sort_derivative
ad.primitive_jvps[_sort_with_order] = _sort_with_order_derivative
for _mover, _inverse in ((_take, _put), (_put, _take)):
    ad.primitive_jvps[_mover] = partial(_moved, _mover)
    ad.primitive_transposes[_mover] = partial(_moved_back, _inverse)


# --- Sorted samples ------------------------------------------------------------------------


def sliced_difference(ex: Array, ey: Array, power: float) -> Array:
    """The mean |ex - ey|^power of sorted values [n, k, m] and [n, k, m'], by quantiles, [n]."""
    count = max(ex.shape[-1], ey.shape[-1])
    return safe_power(_quantiles(ex, count) - _quantiles(ey, count), power).mean(axis=(1, 2))


def _quantiles(values: Array, count: int) -> Array:
    """Values sorted along the last axis, interpolated to `count` evenly spaced quantiles."""
    have = values.shape[-1]
    if have == count:
        return values
    places = np.clip((np.arange(count) + 0.5) * (have / count) - 0.5, 0, have - 1)
    below = np.minimum(places.astype(int), max(have - 2, 0))
    above = np.minimum(below + 1, have - 1)
    weight = jnp.asarray(places - below, values.dtype)[None, None]
    return values[..., below] * (1 - weight) + values[..., above] * weight
