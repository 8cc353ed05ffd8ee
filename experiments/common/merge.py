"""What a function computes twice, computed once before it is differentiated."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, TypeVar

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, jaxpr_as_fun

__all__ = ["merged"]

T = TypeVar("T")


def merged(function: Callable[..., T]) -> Callable[..., T]:
    """The same function, in which equal operations on equal operands are done once.

    Two distances on one network ask for two passes of it. XLA makes them one, but by then the
    gradient goes back through the network once for each: a step towards a content and a style at
    256 px took 2.4 s so on a busy machine, and 1.8 merged. The function is for
    use inside `jit`: it is traced twice.

    Args:
      function: pure, of pytrees of arrays.
    """

    @wraps(function)
    def once(*arguments: Any) -> T:
        traced, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results = jaxpr_as_fun(_without_repeats(traced))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return once


def _without_repeats(traced: ClosedJaxpr) -> ClosedJaxpr:
    first: dict[Any, Any] = {}  # a variable -> the one that is equal to it and comes first
    done: dict[Any, list[Any]] = {}  # an operation on operands -> its results
    for variable, value in zip(traced.jaxpr.constvars, traced.consts, strict=True):
        known = done.setdefault(_constant(value), [variable])[0]
        if known is not variable:
            first[variable] = known
    kept = []
    for equation in traced.jaxpr.eqns:
        operands = [x if isinstance(x, Literal) else first.get(x, x) for x in equation.invars]
        equation = equation.replace(invars=operands)
        key = _key(equation)
        if key in done and not equation.effects:
            first |= zip(equation.outvars, done[key], strict=True)
        else:
            done[key] = equation.outvars
            kept.append(equation)
    results = [x if isinstance(x, Literal) else first.get(x, x) for x in traced.jaxpr.outvars]
    return traced.replace(jaxpr=traced.jaxpr.replace(eqns=kept, outvars=results))


def _constant(value: Any) -> Any:
    """Equal for arrays that are equal, where they are small: a network's mean, say."""
    if isinstance(value, jax.core.Tracer) or np.size(value) > 1000:
        return id(value)
    array = np.asarray(value)
    return array.shape, array.dtype, array.tobytes()


def _key(equation: JaxprEqn) -> Any:
    """Equal for operations that are equal: options that cannot be compared equal only themselves.

    That merges calls of one jitted function (`jnp.where`), whose program JAX keeps.
    """
    operands = tuple(
        (str(x.aval), repr(x.val)) if isinstance(x, Literal) else x for x in equation.invars
    )
    options = tuple(
        (name, value if isinstance(value, Hashable) else id(value))
        for name, value in sorted(equation.params.items())
    )
    return equation.primitive, operands, options
