"""Checks of a model's fields, told by the names under which a configuration holds them."""

from collections.abc import Sequence

import flax.linen as nn

from ifanp_jax import errors
from ifanp_jax.errors import UserError


def check_choice(model: nn.Module, name: str, allowed: Sequence[str]) -> None:
    """Raises a UserError when a field is none of the allowed values."""
    errors.check_choice(f"config.model.{name}", getattr(model, name), allowed)


def check_range(model: nn.Module, name: str, low: float, *, high: float | None = None) -> None:
    """Raises a UserError when a field is not between `low` and `high`, both included."""
    errors.check_range(f"config.model.{name}", getattr(model, name), low, high=high)


def check_divides(model: nn.Module, name: str, of: str) -> None:
    """Raises a UserError when one field does not divide another."""
    divisor, value = getattr(model, name), getattr(model, of)
    if value % divisor:
        raise UserError(
            f"config.model.{name} is {divisor}; it must divide config.model.{of}, which is {value}."
        )
