"""Floating-point operations of a function, counted from its jaxpr: the same on every device and compiler."""

import math
from collections.abc import Callable

import jax
from jax.extend import core


def count(function: Callable, *args) -> int:
    """Counts the operations of matrix products and convolutions, two per multiply-add; nothing is run.

    All else (activations, sums, random numbers) is left out, as in the usual model FLOPs. Every iteration of
    a scan counts, recomputation in a backward pass too; the body of a `while` loop counts once.

    Args:
      function: traceable.
      *args: arrays, or their shapes and dtypes.

    Returns:
      Operations of one call.
    """
    return _count_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _count_jaxpr(jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation) -> int:
    params = equation.params
    match equation.primitive.name:
        case "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
        case "conv_general_dilated":
            return _count_convolution(equation)
        case "scan":
            return params["length"] * _count_jaxpr(params["jaxpr"].jaxpr)
        case "cond":
            return max(_count_jaxpr(branch.jaxpr) for branch in params["branches"])
    return sum(_count_jaxpr(jaxpr) for value in params.values() for jaxpr in _inner_jaxprs(value))


def _count_convolution(equation) -> int:
    """Output values times kernel taps times input channels per group; padding counts as if it were data."""
    numbers = equation.params["dimension_numbers"]
    kernel = equation.invars[1].aval.shape
    taps = math.prod(kernel[axis] for axis in numbers.rhs_spec[1:])  # input channels per group, then space
    return 2 * equation.outvars[0].aval.size * taps


def _inner_jaxprs(value):
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    return [value] if isinstance(value, core.Jaxpr) else []
