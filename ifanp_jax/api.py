"""Training on arrays from Python: `ifanp_jax.train`, and the `Trained` that comes of it."""

import contextlib
import dataclasses
import logging
import pathlib
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import configuration, errors, files, presets
from ifanp_jax.data import sources
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import report, validation
from ifanp_jax.inference.model import Model
from ifanp_jax.runtime import extras
from ifanp_jax.training import loop, runs

logger = logging.getLogger("ifanp_jax")

FOLDER = "data"  # of the arrays, inside the working directory
PARTS = ("train", "val")
FIXED = ("data.source", "data.dir", "data.name", "data.train_split", "data.eval_split")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Trained(Model):
    """A model that `train` trained: what `ifanp_jax.load(workdir)` gives, and its training.

    Attributes:
      run: configuration, model and final state.
      dataset: training and held-out images.
      workdir: holds checkpoints, metrics, `run.json` and the images; the command line takes it as --workdir.
    """

    run: runs.Run = dataclasses.field(repr=False)
    dataset: Dataset = dataclasses.field(repr=False)
    workdir: pathlib.Path

    def evaluate(self) -> dict[str, Any]:
        """Evaluates on the held-out images, prints the table, and writes tables and figures into `workdir`.

        Returns:
          What `evaluation.json` holds.
        """
        with _shown(), errors.full_device("lower evaluate.batch_size or evaluate.num_samples"):
            return report.make(self, self.dataset, self.workdir)


def train(
    images: np.ndarray,
    *,
    held_out: np.ndarray | None = None,
    workdir: str | pathlib.Path | None = None,
    config: str = "own_multiscale",
    overrides: Mapping[str, Any] | None = None,
    name: str = "images",
) -> Trained:
    """Trains a model on arrays and shows how it gets on.

    The arrays are kept beside the run as `data/train.npy` and `data/val.npy`, uint8, so every command works
    on it afterwards, and the same call goes on from the newest checkpoint.

    Args:
      images: uint8, or float in [0, 1], which is rounded to 8 bits; (N, H, W) or (N, H, W, C), C = 1 or 3.
      held_out: images for the evaluation, as `images`; None = `data.eval_fraction` of `images`, drawn by
        `seed`.
      workdir: folder of the run; None = a temporary one, which goes when the result does.
      config: a shipped configuration or the path of one, with ":MODEL" or without.
      overrides: fields of the configuration by dotted name, such as {"train.num_steps": 500}, or
        {"train.init_from": "photos"} to start from a trained model.
      name: what tables call the images.

    Returns:
      The model, which completes, and evaluates itself by `evaluate()`.

    Raises:
      UserError: the images, the configuration or the folder cannot be used.
    """
    extras.require("train", "a training")
    loaded = _make_config(config, overrides or {}, name)
    parts = _split(images, held_out, loaded)
    is_kept = workdir is not None
    place = pathlib.Path(workdir if is_kept else tempfile.mkdtemp(prefix="ifanp_jax_")).expanduser().resolve()
    try:
        loaded.data.dir = str(_save(parts, place))
        dataset = sources.load(loaded.data)
        with _shown(), errors.full_device("lower train.batch_size, or take a smaller model or images"):
            validate = validation.make_validation(loaded, dataset)
            run = loop.run(loaded, place, dataset, validate=validate)
            fields = {field.name: getattr(run.model, field.name) for field in dataclasses.fields(Model)}
            trained = Trained(**fields, run=run, dataset=dataset, workdir=place)
    except BaseException:
        if not is_kept:
            shutil.rmtree(place, ignore_errors=True)
        raise
    if not is_kept:
        weakref.finalize(trained, shutil.rmtree, place, ignore_errors=True)
    return trained


def _make_config(name: str, overrides: Mapping[str, Any], data_name: str) -> ConfigDict:
    config = presets.load(name)
    # What a shipped configuration says of its own images does not hold for these.
    own = {name: field.default for name, field in configuration.FIELDS.items() if field.is_of_images}
    own |= {"data.source": "arrays", "data.eval_split": "val", "data.name": data_name}
    config.update_from_flattened_dict(own)
    # Then what the caller sets.
    known = configuration.flatten(config)
    if not isinstance(overrides, Mapping):
        raise UserError(
            f"overrides is a {type(overrides).__name__} but must be a dict of fields by dotted name, such as "
            '{"train.num_steps": 500}.'
        )
    for field, value in overrides.items():
        if field in FIXED:
            raise UserError(f"overrides sets {field}, which train sets itself; leave it out.")
        if field not in known:
            raise UserError(
                f"overrides sets {field}, which {name} does not have; see ifanp_jax/configuration.py."
            )
        try:
            config.update_from_flattened_dict({field: value})
        except (TypeError, ValueError) as error:
            raise UserError(f"overrides sets {field}: {errors.first_line(error)}.") from None
    configuration.prepare(config, given=overrides)
    return config


def _split(images, held_out, config) -> dict[str, np.ndarray]:
    """uint8 (N, H, W, C) of both parts."""
    images = _to_uint8(images, "images")
    if held_out is not None:
        return dict(zip(PARTS, (images, _to_uint8(held_out, "held_out")), strict=True))
    share = config.data.eval_fraction
    if len(images) < 2:
        raise UserError(
            "images holds only one image, and one must be held out: add others, or give held_out."
        )
    if not 0 < share < 1:
        raise UserError(
            f"data.eval_fraction is {share} but must lie between 0 and 1: choose for example 0.1, or give "
            "held_out."
        )
    order = np.random.default_rng(config.seed).permutation(len(images))
    count = min(max(1, round(share * len(images))), len(images) - 1)
    return {"train": images[np.sort(order[count:])], "val": images[np.sort(order[:count])]}


def _to_uint8(images, what):
    try:
        images = np.asarray(images)
    except ValueError:
        raise UserError(
            f"{what} holds images of different shapes but must be one array: resize them, or train on a "
            "folder of pictures with --config=own_multiscale."
        ) from None
    given = images.shape
    if 0 in given:
        raise UserError(f"{what} has shape {given} and so holds nothing: give images of at least one pixel.")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise UserError(
            f"{what} has shape {given} but must be (N, H, W) or (N, H, W, C), C = 1 or 3: "
            "channels come last, without alpha."
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise UserError(f"{what} has dtype {images.dtype} but must be uint8, or float in [0, 1]: convert it.")
    low, high = float(images.min()), float(images.max())
    if np.isnan(low):
        raise UserError(
            f"{what} has values that are NaN but floats must lie in [0, 1]: replace or drop them."
        )
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"{what} has values from {low:g} to {high:g} but floats must lie in [0, 1]: scale them, or give "
            "uint8."
        )
    return np.rint(images * 255).astype(np.uint8)


def _save(parts, workdir) -> pathlib.Path:
    """Writes the arrays, or finds them as they are."""
    folder = workdir / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part, images in parts.items():
            path = folder / f"{part}.npy"
            if not path.exists():
                with files.replacing(path) as unfinished:
                    np.save(unfinished, images)
            elif not np.array_equal(np.load(path, mmap_mode="r", allow_pickle=False), images):
                raise UserError(
                    f"{workdir} holds a run on other images ({path}); give the same ones or another workdir."
                )
    except (OSError, EOFError) as error:
        raise UserError(f"{folder} cannot be written ({errors.first_line(error)}); name another.") from None
    return folder


@contextlib.contextmanager
def _shown() -> Iterator[None]:
    """Shows the log of this package where the program shows none."""
    if logger.isEnabledFor(logging.INFO) and logger.hasHandlers():
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
