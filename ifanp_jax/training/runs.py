"""A `Run`: what a working directory holds, and how it is read and checked."""

import dataclasses
import json
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from ifanp_jax import configuration, errors, files, models
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.inference import store
from ifanp_jax.inference.model import Model
from ifanp_jax.training import checkpoint, steps

logger = logging.getLogger(__name__)

FILE_NAME = "run.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """A training: what was asked for, and how far it is.

    Attributes:
      config: as it is trained.
      image_shape: (H, W, C) of its images.
      module: the model's unbound Flax module.
      step: the way of training.
      state: of the step; None before there is one.
    """

    config: ConfigDict
    image_shape: tuple[int, int, int]
    module: nn.Module
    step: steps.Step
    state: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What the model is evaluated and completes with: `params` and its other collections."""
        return self.step.variables(self.state)

    @property
    def num_steps_done(self) -> int:
        """Optimiser steps done."""
        return int(self.state.step)

    @property
    def model(self) -> Model:
        """The trained model as it stands: it completes and is evaluated."""
        return Model(
            module=self.module,
            variables=self.variables,
            config=self.config,
            image_shape=self.image_shape,
            step=self.num_steps_done,
        )


def make(config: ConfigDict, image_shape: tuple[int, int, int]) -> Run:
    """Builds the model and the step of a configuration for images (H, W, C); there is no state yet.

    Raises:
      UserError: when the model, the step or a field of one is unknown or wrong.
    """
    module = models.get(config.model, channels=image_shape[-1])
    return Run(config=config, image_shape=tuple(image_shape), module=module, step=steps.get(config, module))


def trained_shape(config: ConfigDict, dataset: Dataset) -> tuple[int, int, int]:
    """(H, W, C) of the images that a training sees: those of the data, or random crops of them.

    Raises:
      UserError: when the crop, at its smallest scale, is larger than the images.
    """
    h, w, c = dataset.train.shape[1:]
    crop = config.data.random_crop
    if crop > min(h, w):
        raise UserError(
            f"config.data.random_crop is {crop} but the images have {h}x{w} pixels; choose at most "
            f"{min(h, w)}, or 0 for whole images."
        )
    least_scale = config.data.random_scale[0]
    if crop > least_scale * min(h, w):
        raise UserError(
            f"config.data.random_scale is {tuple(config.data.random_scale)}, for which crops of {crop} "
            f"pixels are cut out of {crop / least_scale:.0f}, but the images have {h}x{w}; choose at least "
            f"{crop / min(h, w):.3g}, or larger images (config.data.tile_size)."
        )
    return (crop, crop, c) if crop else (h, w, c)


def abstract_state(run: Run) -> Any:
    """Shapes and dtypes of the state of a run."""
    return jax.eval_shape(lambda key: run.step.init(key, run.image_shape), jax.random.key(0))


def make_record(config: ConfigDict, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """What a checkpoint and `run.json` say of their run, as JSON values."""
    return {"image_shape": list(image_shape), "config": config.to_dict()}


def parse_record(record: dict[str, Any]) -> tuple[ConfigDict, tuple[int, int, int]]:
    """The configuration and (H, W, C) of a record that went through JSON."""
    return store.to_config(record["config"]), tuple(record["image_shape"])


def write(workdir: str | pathlib.Path, config: ConfigDict, image_shape: tuple[int, int, int]) -> None:
    """Writes `run.json`, whole or not at all; a UserError where the folder cannot be written."""
    path = pathlib.Path(workdir) / FILE_NAME
    text = json.dumps({"format": checkpoint.FORMAT} | make_record(config, image_shape), indent=2)
    try:
        files.write_whole(path, text + "\n")
    except OSError as error:
        raise errors.of_file(
            error.errno,
            f"{path} cannot be written ({error.strerror}); make room or make the folder writable, or choose "
            "another workdir.",
        ) from None


def open_checkpoints(
    workdir: str | pathlib.Path, config: ConfigDict, *, is_writer: bool
) -> checkpoint.Checkpoints:
    """Opens the checkpoints of a working directory; a UserError where it is missing and cannot be made."""
    try:
        return checkpoint.Checkpoints(
            workdir,
            num_kept=config.train.num_checkpoints,
            keep_every=config.train.keep_every,
            is_writer=is_writer,
        )
    except OSError as error:
        message = f"{workdir} cannot be made ({error.strerror}); choose another workdir."
        raise errors.of_file(error.errno, message) from None


def read(workdir: str | pathlib.Path) -> tuple[ConfigDict, tuple[int, int, int]] | None:
    """Reads `run.json`: the configuration and (H, W, C), or None where there is none.

    Raises:
      UserError: when it is damaged, or of a newer version.
    """
    path = pathlib.Path(workdir) / FILE_NAME
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text())
        checkpoint.check_format(path, record["format"])
        return parse_record(record)
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); restore it or choose another workdir.") from None


def check_same_model(
    workdir: str | pathlib.Path, config: ConfigDict, image_shape: tuple[int, int, int] | None
) -> None:
    """Refuses to go on in a working directory of another model or other images.

    Args:
      workdir: may be new.
      config: what is asked for now.
      image_shape: (H, W, C) of the images now, or None where they are not loaded yet.

    Raises:
      UserError: that lists the differing fields old -> new.
    """
    begun = _read_begun(workdir)
    if begun is None:
        return
    old_config, old_shape = begun
    of_model = (
        ConfigDict({"model": one.model, "ema": one.train.ema_decay > 0}) for one in (old_config, config)
    )
    differing = configuration.changes(*of_model)
    if image_shape is not None and tuple(image_shape) != old_shape:
        differing.append(f"image shape: {old_shape} -> {tuple(image_shape)}")
    if differing:
        raise UserError(
            f"{workdir} holds a run of another model ({'; '.join(differing)}); "
            "choose another workdir or set these fields back."
        )


def check_same_run(
    workdir: str | pathlib.Path,
    config: ConfigDict,
    image_shape: tuple[int, int, int],
    *,
    allowed_changes: Sequence[str] | None = (),
) -> None:
    """Refuses to go on with a run under another configuration.

    Args:
      workdir: as of `check_same_model`, like the next two.
      config: what is asked for now.
      image_shape: (H, W, C) of the images now.
      allowed_changes: fields that may differ, see `configuration.changes`; never those of the model; None =
        none, whatever the command line says.
    """
    check_same_model(workdir, config, image_shape)
    begun = _read_begun(workdir)
    if begun is None:
        return
    changes = configuration.changes(begun[0], config, allowed=allowed_changes or ())
    if changes:
        names = ",".join(line.partition(":")[0] for line in changes)
        advice = "" if allowed_changes is None else f", or go on with --allow_config_change={names}"
        raise UserError(
            f"{workdir} holds a run of another configuration ({'; '.join(changes)}); set these "
            f"fields back or choose another workdir{advice}."
        )
    for line in configuration.differences(begun[0], config):
        logger.info("Goes on with another %s", line)


def check_same_images(
    workdir: str | pathlib.Path,
    old: dict,
    new: dict,
    *,
    part: str = "training",
    allowed_changes: Sequence[str] | None = (),
) -> None:
    """Refuses to go on with other images, wherever they lie.

    Args:
      workdir: named in the message.
      old: record with what `dataset.describe_images` said then.
      new: the same of now.
      part: which images they are, "training" or "held-out".
      allowed_changes: "data" allows it; None = never, whatever the command line says.
    """
    names = ("num_images", "sha256_of_some_images")
    if "data" in (allowed_changes or ()) or all(old[name] == new[name] for name in names):
        return
    advice = "" if allowed_changes is None else ", or go on with --allow_config_change=data"
    raise UserError(
        f"{workdir} holds a run on other {part} images ({old['num_images']} images -> "
        f"{new['num_images']}, or others of them); give the same ones or choose another workdir{advice}."
    )


def _read_begun(workdir):
    """As `read`; None also where nothing was saved yet, when another configuration changes nothing."""
    is_evaluated = (pathlib.Path(workdir) / "evaluation.json").is_file()
    if not checkpoint.exists(workdir) and not is_evaluated:
        return None
    begun = read(workdir)
    if begun is None:
        raise UserError(
            f"{workdir} holds a run whose {FILE_NAME} is missing; put it back (checkpoint.json of every step "
            "holds the same configuration) or choose another workdir."
        )
    return begun


def load(workdir: str | pathlib.Path) -> Run:
    """Restores the newest checkpoint of a working directory.

    Raises:
      UserError: when the directory holds no run or no checkpoint.
    """
    record = read(workdir)
    if record is None:
        raise UserError(f"{workdir} holds no run ({FILE_NAME} is missing); give the folder of a training.")
    try:
        run = make(*record)
    except (AttributeError, KeyError) as error:
        raise UserError(
            f"{workdir}/{FILE_NAME} lacks a field that this version needs ({errors.first_line(error)}): "
            "take the version of the package that wrote it."
        ) from None
    with open_checkpoints(workdir, run.config, is_writer=False) as checkpoints:
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        restored = checkpoints.restore(abstract_state(run), device)
    if restored is None:
        raise UserError(f"{workdir} holds no checkpoint; train with this workdir first.")
    state, _ = restored
    return dataclasses.replace(run, state=state)
