"""Ways of training, one file each. A step is found by its name."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from ifanp_jax.errors import UserError

_ELSEWHERE = {"adversarial": "ifanp_jax.inpainters.step"}  # steps that lie in the folder of their models


@dataclasses.dataclass(frozen=True)
class Step:
    """One way of training a model. Everything is pure; the caller compiles it.

    Attributes:
      init: (key, (H, W, C), *, variables=None) -> state at step 0, a Flax dataclass whose field `step` is
        int32, the optimiser steps done. The model's variables are those given, else drawn. Everything in the
        state is saved in checkpoints.
      update: (key, state, batches) -> (state, metrics): one optimiser step. `batches` is a `sampling.Batch`
        with a leading axis of `num_batches`; `key` is the run's noise stream, the same at every step, to be
        folded in with `state.step`. `metrics` are float32 scalars by name.
      variables: state -> what the model is evaluated and completes with, {"params": ...} and the like.
      schedule: step -> learning rate, for the log.
      finite_metrics: names of metrics that end the run when they are not finite.
      show: (averages by name) -> the few words of the progress line.
      num_batches: batches that one update takes.
      remedy: what to do against values that are not finite, as the beginning of a sentence.
      held_out_loss: ({"reconstruction": (N,), "kl": (N,) or missing}, target values per image (N,)) -> what
        `update` calls loss, of N held-out images; None where only a training has one.
      loss_unit: of the loss, for figures.
    """

    init: Callable[..., Any]
    update: Callable[..., tuple[Any, dict[str, Any]]]
    variables: Callable[[Any], dict[str, Any]]
    schedule: optax.Schedule
    finite_metrics: tuple[str, ...]
    show: Callable[[dict[str, float]], str]
    num_batches: int = 1
    remedy: str = "lower config.train.learning_rate or clip with config.train.max_grad_norm=1"
    held_out_loss: Callable[[dict[str, Any], Any], float] | None = None
    loss_unit: str = ""


def get(config: ConfigDict, model: nn.Module) -> Step:
    """Builds the step that `config.step.name` names; "" = the one of the model's family.

    Raises:
      UserError: when there is no step of that name, or it does not have a field of `config.step`.
    """
    name = config.step.name or model.step
    known = default_fields(name, model)
    unknown = next((field for field in config.step if field not in known and field != "name"), None)
    if unknown is not None:
        has = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise UserError(
            f"config.step.{unknown} is no field of the step {name} ({has}); leave config.step.name empty for "
            "the step that the model's family is made for."
        )
    return _import(name).make_step(config, model)


def get_config(model: nn.Module) -> ConfigDict:
    """The part `step` of a configuration: no name, and every field of the step of the model's family."""
    return ConfigDict({"name": ""} | default_fields(model.step, model))


def default_fields(name: str, model: nn.Module) -> dict[str, Any]:
    """The fields of a step for a model, and their defaults.

    Raises:
      UserError: when there is no step of that name, or it does not train this model.
    """
    step = _import(name)
    return step.default_fields(model) if hasattr(step, "default_fields") else {}


def _import(name: str) -> ModuleType:
    if name not in list_steps():
        raise UserError(f"config.step.name is {name!r}; choose one of {', '.join(list_steps())}.")
    return importlib.import_module(_ELSEWHERE.get(name, f"{__name__}.{name}"))


def list_steps() -> list[str]:
    """Names of all steps."""
    return sorted([module.name for module in pkgutil.iter_modules(__path__)] + list(_ELSEWHERE))
