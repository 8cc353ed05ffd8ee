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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir, xla

from perceptual_jax._typing import Array
from perceptual_jax.ops.safe import safe_power

__all__ = ["sliced_difference", "sort_last"]


@jax.custom_jvp
def sort_last(values: Array) -> Array:
    """Values sorted along the last axis, NaN last."""
    return _sort.bind(values)


@sort_last.defjvp
def _sort_last_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (values,), (tangent,) = primals, tangents
    order = _argsort.bind(jax.lax.stop_gradient(values))
    take = partial(jnp.take_along_axis, indices=order, axis=-1)
    return take(values), take(tangent)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="perceptual-jax-sort")


_BLOCK = 2**16
"""Numbers to work on at a time: few enough to stay in the cache, and to need no large array, whose
fresh pages may take longer than the sort (60 x 128 x 3364 numbers: 80 ms, and up to 300)."""


def _by_rows(fill: Callable[[np.ndarray, np.ndarray], None], values: np.ndarray, dtype: Any) -> Any:
    """What `fill(rows, results)` makes of the last axis, on every core.

    NumPy lets go of Python while it sorts.
    """
    found = np.empty(values.shape, dtype)
    count = values.shape[-1]
    rows, results = values.reshape(-1, count), found.reshape(-1, count)
    step = max(_BLOCK // max(count, 1), 1)
    starts = range(0, len(rows), step)

    def some(starts: range) -> None:
        for start in starts:
            block = slice(start, start + step)
            fill(rows[block], results[block])

    cores = os.cpu_count() or 1
    for _ in _threads().map(some, (starts[core::cores] for core in range(cores))):
        pass
    return found


def _sorted(rows: np.ndarray, results: np.ndarray) -> None:
    results[:] = rows
    results.sort(axis=-1)


def _orders(rows: np.ndarray, results: np.ndarray) -> None:
    """The places of each row's sorted values, equal ones in the order they came.

    A float32 and its place make one 64-bit integer, whose sort NumPy has vectorised: 39 ms where
    a stable argsort takes 234.
    """
    for row, order in zip(rows, results, strict=True):
        # One zero and one NaN, of the two and the many that there are.
        row = np.where(np.isnan(row), np.float32(np.nan), row + np.float32(0))
        bits = row.view(np.int32).astype(np.int64)
        keys = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits) << 32 | np.arange(row.size)
        keys.sort()
        order[:] = keys  # the lower half


def _may_call_back(context: mlir.LoweringRuleContext) -> bool:
    """Whether the program is float32's, for one device, in this process."""
    module = context.module_context
    return (
        # JAX reads the x64 flag of a callback's thread, not of the caller: float64 would be lost.
        all(values.dtype == np.float32 for values in context.avals_in)  # type: ignore[attr-defined]
        and getattr(module.axis_context, "num_devices", None) == 1
        and len(module.platforms) == 1
        and not module.lowering_parameters.for_export
    )


def _primitive(
    name: str,
    in_numpy: Callable[[np.ndarray], np.ndarray],
    in_xla: Callable[[Array], Array],
    dtype: Any = None,
) -> Primitive:
    """An operation along the last axis that keeps the shape, in two forms."""
    primitive = Primitive(name)
    primitive.def_impl(partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(lambda values: values.update(dtype=dtype or values.dtype))

    def batched(arguments: tuple[Array], axes: tuple[int]) -> tuple[Array, int]:
        return primitive.bind(jnp.moveaxis(arguments[0], axes[0], 0)), 0

    lowered_in_xla = mlir.lower_fun(in_xla, multiple_results=False)

    def lowered_on_cpu(context: mlir.LoweringRuleContext, operand: Any) -> Any:
        if not _may_call_back(context):
            return lowered_in_xla(context, operand)
        # `jax.pure_callback` would put the operands on the device first, which waits for a
        # thread that another callback may hold.
        results, _, _ = mlir.emit_python_callback(
            context,
            lambda values: (in_numpy(values),),
            None,
            [operand],
            context.avals_in,  # type: ignore[arg-type]
            context.avals_out,
            has_side_effect=False,
        )
        return results

    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, lowered_in_xla)
    mlir.register_lowering(primitive, lowered_on_cpu, platform="cpu")
    return primitive


_sort = _primitive(
    "sort_last",
    lambda values: _by_rows(_sorted, values, values.dtype),
    partial(jnp.sort, axis=-1),
)
_argsort = _primitive(
    "order_last",
    lambda values: _by_rows(_orders, values, np.int32),
    lambda values: jnp.argsort(values, axis=-1).astype(jnp.int32),
    dtype=np.dtype(np.int32),
)


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
