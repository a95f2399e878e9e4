"""Floating-point operations of a function, counted from its jaxpr: the same on every device and compiler."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.extend import core


class Product(NamedTuple):
    """Matrix products or convolutions that one line of a program does.

    Attributes:
      scope: names of the modules and transformations around it, separated by "/".
      flops: operations, two per multiply-add.
      num_values: read and written.
    """

    scope: str
    flops: int
    num_values: int


def count(function: Callable, *args) -> int:
    """Counts the operations of matrix products and convolutions, two per multiply-add; nothing is run.

    All else (activations, sums, random numbers) is left out, as in the usual model FLOPs. Every iteration of
    a scan counts, recomputation in a backward pass too; the body of a `while` loop counts once. `args` are
    arrays, or their shapes and dtypes.
    """
    return sum(product.flops for product in list_products(function, *args))


def list_products(function: Callable, *args) -> list[Product]:
    """The matrix products and convolutions of one call, as `count` counts them."""
    return _list_jaxpr(jax.make_jaxpr(function)(*args).jaxpr, "")


def _list_jaxpr(jaxpr, scope):
    return [product for equation in jaxpr.eqns for product in _list_equation(equation, scope)]


def _list_equation(equation, scope) -> list[Product]:
    params, scope = equation.params, f"{scope}/{equation.source_info.name_stack}"
    match equation.primitive.name:
        case "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            return [_make_product(equation, scope, math.prod(shape[axis] for axis in contracted))]
        case "conv_general_dilated":
            # Kernel taps times input channels per group; padding counts as if it were data.
            numbers, kernel = params["dimension_numbers"], equation.invars[1].aval.shape
            return [_make_product(equation, scope, math.prod(kernel[axis] for axis in numbers.rhs_spec[1:]))]
        case "scan":
            body = _list_jaxpr(params["jaxpr"].jaxpr, scope)
            return [Product(name, params["length"] * n, params["length"] * m) for name, n, m in body]
        case "cond":
            branches = [_list_jaxpr(branch.jaxpr, scope) for branch in params["branches"]]
            return max(branches, key=lambda products: sum(product.flops for product in products))
    inner = [getattr(value, "jaxpr", value) for value in params.values()]
    return [product for one in inner if isinstance(one, core.Jaxpr) for product in _list_jaxpr(one, scope)]


def _make_product(equation, scope, num_terms):
    """A product each of whose outputs is a sum of so many terms."""
    outputs = equation.outvars[0].aval.size
    inputs = sum(variable.aval.size for variable in equation.invars)
    return Product(scope, 2 * outputs * num_terms, inputs + outputs)
