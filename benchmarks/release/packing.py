"""From a trained run to the two files of a shipped model."""

import dataclasses
import json
import logging
import pathlib
import re
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.release import card, rounding
from ifanp_jax import configuration, files, presets
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError, first_line
from ifanp_jax.evaluation import scores
from ifanp_jax.inference import store
from ifanp_jax.inference.model import Model
from ifanp_jax.training import runs

logger = logging.getLogger(__name__)

METRICS = (
    "num_images", "psnr", "psnr_completed", "psnr_completed_interval", "psnr_unobserved", "ssim", "crps",
    "log_prob", "rounds_rank_correlation",
)  # fmt: skip
# Where things lie is of the machine; what the images are stands in the rest of `data`.
PLACES = {name: "" for name, field in configuration.FIELDS.items() if field.is_place}
FOLDERS = {"folder": "PICTURES", "arrays": "ARRAYS", "tfds": "TFDS_DIR"}  # in the command of the card


# What the header of a shipped model says beside `store.FIELDS`.
FIELDS = {
    "name": "of the model",
    "data": "name of the data set and its two parts",
    "crop": "what is used of each image",
    "range": "of the values that the model takes",
    "sigma_floor": "least standard deviation that it answers with",
    "seed": "of the training",
    "num_parameters": "values",
    "commit": "of the code that trained it",
    "command": "that trains it again",
    "validation": "the numbers of its evaluation, each with its n, JSON",
    "rounding": "what the storage changes, JSON",
    "montage_depth": "pixels from what is known above which parts of a picture fill a hole better",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What a person says of a model.

    Attributes:
      name: that it gets.
      recipe: shipped configuration from which it was trained, with ":MODEL" or without.
      commit: of the code that trained it.
      licence: of the weights, in a few words.
      notice: a sentence for everybody who loads it; "" = none.
      dtype: "auto", "float16" or "float32".
      montage_depth: of FIELDS, by `python -m benchmarks holes`; "" = parts of a picture never fill its holes.
    """

    name: str
    recipe: str
    commit: str
    licence: str
    notice: str = ""
    dtype: str = "auto"
    montage_depth: str = ""


def load(workdir: str | pathlib.Path) -> tuple[Model, dict[str, Any], np.ndarray]:
    """What a working directory holds: the model, its evaluation, and its held-out images, read again.

    Raises:
      UserError: when one of them is missing, or the evaluation is of another step.
    """
    model = runs.load(workdir).model
    path = pathlib.Path(workdir).expanduser() / "evaluation.json"
    advice = f"run --mode=evaluate --workdir={workdir} first"
    try:
        evaluation = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); {advice}.") from None
    if evaluation.get("step") != model.step:
        raise UserError(
            f"{path} is of step {evaluation.get('step')} but the newest checkpoint of step "
            f"{model.step}; {advice}."
        )
    return model, evaluation, sources.load(model.config.data).evaluation


def pack(
    model: Model,
    evaluation: dict[str, Any],
    images: np.ndarray,
    output: str | pathlib.Path,
    request: Request,
) -> pathlib.Path:
    """Writes `NAME.safetensors`, and the measured part of `NAME.md`, which a person has written.

    Args:
      model: trained.
      evaluation: of `evaluation.json`.
      images: uint8 (N, H, W, C), held out.
      output: folder with the card.
      request: what the model does not say.

    Returns:
      The path of the weights.

    Raises:
      UserError: when the card or a part of the request is missing or does not fit.
    """
    _check(request)
    output = pathlib.Path(output).expanduser()
    path, card_path = (output / f"{request.name}{suffix}" for suffix in (".safetensors", ".md"))
    card.read(card_path, licence=request.licence)
    command = make_command(request.name, request.recipe, model.config)
    dtype, change = rounding.choose(model, images, dtype=request.dtype)
    _tell_rounding(dtype, change)
    record = describe(model, evaluation) | {
        "name": request.name,
        "commit": request.commit,
        "command": command,
        "rounding": json.dumps(change and dataclasses.asdict(change)),
        "licence": request.licence,
        "notice": request.notice,
        "montage_depth": request.montage_depth,
    }
    content = store.serialize(without_places(model), dtype=dtype, about=record)
    try:
        with files.replacing(path) as unfinished:
            unfinished.write_bytes(content)
        written = store.read(path)  # as everybody will
        card.fill(card_path, list_values(written.about))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written ({error.strerror}); make room.") from None
    logger.info("Wrote %s (%.1f MB), and its numbers into %s.", path, len(content) / 1e6, card_path)
    return path


def _check(request):
    if not re.fullmatch(r"[a-z][a-z0-9_]*", request.name):
        raise UserError(
            f"--name is {request.name!r}; give small letters, digits and underscores, such as mnist28."
        )
    for field in ("commit", "licence"):
        if not getattr(request, field):
            raise UserError(f"--{field} is missing; a model is not shipped without it.")


def describe(model: Model, evaluation: dict[str, Any]) -> dict[str, str]:
    """What a model and its evaluation say, as fields of `FIELDS`."""
    data = model.config.data
    num_images = {part: evaluation[part]["num_images"] for part in ("training_images", "held_out_images")}
    return {
        "data": (
            f"{evaluation['data']}: {num_images['training_images']} images of {data.train_split!r}, "
            f"evaluated on {num_images['held_out_images']} of {data.eval_split!r}"
        ),
        "crop": describe_crop(data),
        "range": "[0, 1]",
        "sigma_floor": str(model.config.model.get("sigma_floor", "")),
        "seed": str(model.config.seed),
        "num_parameters": str(model.num_parameters),
        "validation": json.dumps(list_numbers(evaluation)),
    }


def without_places(model):
    """The model, its configuration without the paths of a machine."""
    config = ConfigDict(model.config.to_dict())
    config.update_from_flattened_dict(PLACES)
    return dataclasses.replace(model, config=config)


def list_values(record: Mapping[str, str]) -> dict[str, Any]:
    """The header of a shipped model with its JSON fields as values."""
    parsed = {name: json.loads(record[name]) for name in ("config", "image_shape", "validation", "rounding")}
    return dict(record) | parsed


def describe_crop(data: ConfigDict) -> str:
    """What of each image is used, in words."""
    words = []
    if data.tile_size:
        reduced = f"the shorter side brought to {data.image_size}, " if data.image_size else ""
        side = min(data.tile_size, data.image_size or data.tile_size)
        words.append(f"{reduced}cut into tiles of {side}x{side}")
    elif data.crop_box:
        words.append(f"the box (top, left, height, width) = {tuple(data.crop_box)}")
    elif data.crop_size:
        words.append(f"the central {data.crop_size}x{data.crop_size} pixels")
    elif data.source == "folder":
        words.append("the largest central square")
    if data.image_size and not data.tile_size:
        words.append(f"averaged to {data.image_size}x{data.image_size}")
    if data.random_crop:
        words.append(f"random crops of {data.random_crop}x{data.random_crop} in training")
    low, high = data.get("random_scale", (1.0, 1.0))
    if low < 1:
        words.append(f"at {low:g} to {high:g} of their size")
    return ", ".join(words) or "whole images"


def list_numbers(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """The numbers of an evaluation, cell by cell."""
    rows = []
    for cell in evaluation["cells"]:
        row = {"mask": cell["mask"], "observed": cell["fraction"]}
        row |= {name: _round(cell[name]) for name in METRICS if name in cell}
        if "rounds_rank_correlation" in row:
            row["rounds_num_images"] = min(evaluation["rounds"]["rounds_images"], cell["num_images"])
        if best := scores.best_classical(evaluation["classical"], cell):
            row |= {
                "classical": best["method"],
                "classical_psnr_completed": _round(best["psnr_completed"]),
                "classical_num_images": best["num_images"],
            }
        rows.append(row)
    return rows


def _round(value):
    if isinstance(value, list | tuple):
        return [_round(one) for one in value]
    return value if isinstance(value, int) else float(f"{value:.6g}")


def make_command(name: str, recipe: str, config: ConfigDict) -> str:
    """The command that trains such a model again.

    Args:
      name: of the model.
      recipe: shipped configuration, with ":MODEL" or without.
      config: of the run; its differences from the recipe become flags.
    """
    flags = [f"--config={recipe}", f"--workdir=runs/{name}"]
    old, new = configuration.flatten(presets.load(recipe)), configuration.flatten(config)
    if place := FOLDERS.get(config.data.source):
        flags.append(f"--config.data.dir={place}")
    if config.data.partition_file:
        flags.append(f"--config.data.partition_file={pathlib.Path(config.data.partition_file).name}")
    if config.train.init_from:
        flags.append("--config.train.init_from=TRAINED")  # which one, the card says
    if unknown := sorted(set(new) - set(old)):
        raise UserError(
            f"--recipe={recipe} lacks fields of the run ({', '.join(unknown)}); name the shipped "
            "configuration from which it was trained."
        )
    changed = [field for field in new if old[field] != new[field] and not _is_free(field)]
    flags += [f"--config.{field}={_show(new[field])}" for field in changed]
    return f"ifanp-jax {' '.join(map(shlex.quote, flags))}"


def _is_free(name):
    """Whether a field changes no number of the model."""
    field = configuration.FIELDS.get(name)
    return field is not None and (field.is_free or field.is_place)


def _show(value):
    return str(tuple(value)).replace(" ", "") if isinstance(value, list) else str(value)


def _tell_rounding(dtype, change):
    if change is None:
        logger.info("Stored in %s, as asked for.", dtype)
        return
    logger.info(
        "Stored in %s: float16 changes a completed value of %d held-out images by at most %.6f, and their "
        "PSNR from %.4f to %.4f dB.",
        dtype,
        change.num_images,
        change.largest,
        change.psnr,
        change.psnr_stored,
    )
