"""How each family of inpainters is trained against critics, one file each.

A recipe is found by the name of the model's file: `models/glcic.py` is trained as `recipes/glcic.py` says. It
says what a paper says: critics, losses, optimiser, and the defaults of `config.step`. What all share is in
`training/steps/adversarial.py`.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import optax

from ifanp_jax.data.sampling import Batch
from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import critics, losses
from ifanp_jax.inpainters.base import Inpainting

Fields = Mapping[str, Any]
# Of every recipe; a recipe gives values of its own, and may add fields.
COMMON_FIELDS = {
    "adversarial": "dcgan",  # of objectives.adversarial.KINDS
    "adversarial_weight": 0.0,  # of the generator's loss against all critics
    "num_critic_updates": 1,  # per update of the generator, each on images and masks of its own
    "learning_rate": 2e-4,  # of the generator, constant
    "critic_learning_rate": 2e-4,
    "critic_width": 64,  # channels of a critic's first layer
}


@dataclasses.dataclass(frozen=True)
class Critic:
    """A critic, and what it sees of an image.

    Attributes:
      network: Flax module, called as network(*seen, train=...) -> scores (B, ...).
      look: (x, start) -> the arrays that it sees; x is (B, H, W, C), an image inside its range [-1, 1], or a
        mask; start is int32 (B, 2), top and left of the window around the hole.
    """

    network: nn.Module
    look: Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a family is trained.

    Attributes:
      fields: `config.step` and its defaults.
      kinds: the adversarial losses that its critics allow.
      make_critics: (model, fields, (H, W)) -> critics by name.
      list_losses: (fields, answer, batch) -> the generator's losses by name without the adversarial one,
        float32 (B,) each, weighted.
      make_optimizer: learning rate -> the optimiser of either side.
      critic_loss_weight: of the critics' loss.
      is_real_elsewhere: whether the window of a real image is drawn anew, not that of the hole.
    """

    fields: Fields
    kinds: tuple[str, ...]
    make_critics: Callable[[nn.Module, Fields, tuple[int, int]], dict[str, Critic]]
    list_losses: Callable[[Fields, Inpainting, Batch], dict[str, jax.Array]]
    make_optimizer: Callable[[float], optax.GradientTransformation]
    critic_loss_weight: float = 1.0
    is_real_elsewhere: bool = False


def get(model: nn.Module) -> Recipe:
    """The recipe of a model's family.

    Args:
      model: Flax module of `ifanp_jax.models`.

    Raises:
      UserError: when its family has none.
    """
    family, known = type(model).__module__.rpartition(".")[2], list_families()
    if family not in known:
        raise UserError(
            f"{family}.{type(model).__name__} cannot be trained against critics; choose a model of "
            f"{', '.join(known)}, or another config.step.name."
        )
    return importlib.import_module(f"{__name__}.{family}").RECIPE


def list_families() -> list[str]:
    """Names of the files of models that have a recipe."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def check(recipe: Recipe, fields: Fields) -> None:
    """Raises a UserError for the first field of `config.step` that cannot work.

    Args:
      recipe: of the model's family.
      fields: of `config.step`.
    """
    if fields["adversarial"] not in recipe.kinds:
        allowed = ", ".join(recipe.kinds)
        reason = " for critics that normalise" if fields["adversarial"] in losses.KINDS else ""
        raise UserError(
            f"config.step.adversarial is {fields['adversarial']!r}; choose one of {allowed}{reason}."
        )
    for name, value in fields.items():
        low = 1 if name in ("num_critic_updates", "critic_width") else 0
        high = 1 if name == "gamma" or name.endswith("_fraction") else None
        if isinstance(value, int | float) and not (low <= value and (high is None or value <= high)):
            limit = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"config.step.{name} is {value}; it must be {limit}.")


def make_adam(*, b1: float = 0.5, b2: float = 0.999) -> Callable[[float], optax.GradientTransformation]:
    """Returns `make_optimizer(learning_rate)` for Adam with these decays."""
    return lambda learning_rate: optax.adam(learning_rate, b1=b1, b2=b2)


def look_at_all(x: jax.Array, start: jax.Array) -> tuple[jax.Array, ...]:
    """The whole image.

    Args:
      x: (B, H, W, C).
      start: not used.
    """
    del start
    return (x,)


def look_at_window(x: jax.Array, start: jax.Array) -> tuple[jax.Array, ...]:
    """The window of half the sides around the hole.

    Args:
      x: (B, H, W, C).
      start: int32 (B, 2), its top and left.
    """
    return (critics.crop(x, start, (x.shape[1] // 2, x.shape[2] // 2)),)
