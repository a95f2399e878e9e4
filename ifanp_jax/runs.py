"""What a working directory says of its run: `run.json`, and the model and state that follow from it."""

import dataclasses
import functools
import json
import logging
import pathlib
from typing import Any

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

from ifanp_jax import checkpoint, configuration, models, optimizer, writers
from ifanp_jax import state as train_state
from ifanp_jax.errors import UserError

logger = logging.getLogger(__name__)

FORMAT = 1
FILE_NAME = "run.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """A training as it stands on disk.

    Attributes:
      config: as it was trained.
      image_shape: (H, W, C) of its images.
      model: the unbound Flax module.
      state: restored from the newest checkpoint.
    """

    config: ConfigDict
    image_shape: tuple[int, int, int]
    model: nn.Module
    state: train_state.TrainState


def make_model(
    config: ConfigDict, image_shape: tuple[int, int, int]
) -> tuple[nn.Module, optax.GradientTransformation, Any]:
    """Builds the model, the optimiser and `init(key) -> TrainState` for images (H, W, C)."""
    model = models.get(config.model, channels=image_shape[-1])
    tx = optimizer.make_optimizer(config.train)
    init = functools.partial(
        train_state.init_state,
        model=model,
        tx=tx,
        image_shape=image_shape,
        has_ema=config.train.ema_decay > 0,
    )
    return model, tx, init


def write(workdir: str | pathlib.Path, config: ConfigDict, image_shape: tuple[int, int, int]) -> None:
    """Writes `run.json`, whole or not at all."""
    path = pathlib.Path(workdir) / FILE_NAME
    text = json.dumps({"format": FORMAT, "image_shape": image_shape, "config": config.to_dict()}, indent=2)
    writers.write_whole(path, text + "\n")


def read(workdir: str | pathlib.Path) -> tuple[ConfigDict, tuple[int, int, int]] | None:
    """Reads `run.json`: the configuration and (H, W, C), or None where there is none."""
    path = pathlib.Path(workdir) / FILE_NAME
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        return ConfigDict(_lists_to_tuples(record["config"])), tuple(record["image_shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it or choose another --workdir.") from None


def check_same_model(
    workdir: str | pathlib.Path, config: ConfigDict, image_shape: tuple[int, int, int] | None
) -> None:
    """Refuses to go on in the working directory of another model or other images.

    Args:
      workdir: may be new.
      config: what is asked for now.
      image_shape: (H, W, C) of the images now, or None where they are not loaded yet.

    Raises:
      UserError: that lists the differing fields old -> new.
    """
    previous = read(workdir)
    if previous is None:
        return
    old_config, old_shape = previous
    differing = configuration.differences(
        ConfigDict({"model": old_config.model, "ema": old_config.train.ema_decay > 0}),
        ConfigDict({"model": config.model, "ema": config.train.ema_decay > 0}),
    )
    if image_shape is not None and tuple(image_shape) != old_shape:
        differing.append(f"image shape: {old_shape} -> {tuple(image_shape)}")
    if differing:
        raise UserError(
            f"--workdir={workdir} holds a run of another model ({'; '.join(differing)}); "
            "choose another --workdir or set these fields back."
        )


def warn_of_changes(workdir: str | pathlib.Path, config: ConfigDict) -> None:
    """Logs every field in which `config` differs from the one in `workdir`, old -> new."""
    previous = read(workdir)
    for line in configuration.differences(previous[0], config) if previous else ():
        logger.warning("The configuration differs from the one in %s: %s", workdir, line)


def load(workdir: str | pathlib.Path) -> Run:
    """Restores the newest checkpoint of a working directory.

    Raises:
      UserError: when the directory holds no run or no checkpoint.
    """
    record = read(workdir)
    if record is None:
        raise UserError(f"{workdir} holds no run ({FILE_NAME} is missing); give the --workdir of a training.")
    config, image_shape = record
    model, _, init = make_model(config, image_shape)
    with checkpoint.Checkpoints(
        workdir, num_kept=config.train.num_checkpoints, is_writer=False
    ) as checkpoints:
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        state = checkpoints.restore(jax.eval_shape(init, jax.random.key(0)), device)
    return Run(config=config, image_shape=image_shape, model=model, state=state)


def _lists_to_tuples(value):
    if isinstance(value, dict):
        return {name: _lists_to_tuples(child) for name, child in value.items()}
    return tuple(value) if isinstance(value, list) else value
