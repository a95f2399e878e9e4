"""Ways of training, one file each. A step is found by the name of its file."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import optax
from ml_collections import ConfigDict

from ifanp_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Step:
    """One way of training a model. Everything is pure; the caller compiles it.

    Attributes:
      init: (key, (H, W, C)) -> state at step 0, a Flax dataclass whose field `step` is int32, the optimiser
        steps done. Everything in it is saved in checkpoints.
      update: (key, state, batches) -> (state, metrics): one optimiser step. `batches` is a `sampling.Batch`
        with a leading axis of `num_batches`; `key` is the run's noise stream, the same at every step, to be
        folded in with `state.step`. `metrics` are float32 scalars by name.
      variables: state -> what the model is evaluated and completes with, {"params": ...} and the like.
      schedule: step -> learning rate, for the log.
      finite_metrics: names of metrics that end the run when they are not finite.
      show: (averages by name) -> the few words of the progress line.
      num_batches: batches that one update takes.
    """

    init: Callable[..., Any]
    update: Callable[..., tuple[Any, dict[str, Any]]]
    variables: Callable[[Any], dict[str, Any]]
    schedule: optax.Schedule
    finite_metrics: tuple[str, ...]
    show: Callable[[dict[str, float]], str]
    num_batches: int = 1


def get(config: ConfigDict, model) -> Step:
    """Builds the step that `config.step.name` names; "" = the one of the model's family.

    Args:
      config: the whole configuration.
      model: Flax module.

    Raises:
      UserError: when there is no step of that name.
    """
    name = config.step.name or model.step
    if name not in list_steps():
        raise UserError(f"config.step.name is {name!r}; choose one of {', '.join(list_steps())}.")
    return importlib.import_module(f"{__name__}.{name}").make_step(config, model)


def list_steps() -> list[str]:
    """Names of all steps."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
