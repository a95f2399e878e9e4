"""A training that starts from the parameters of another model, in place of drawn ones."""

import logging
import pathlib
from typing import Any

import jax
from flax import traverse_util
from ml_collections import ConfigDict

from ifanp_jax import configuration, models, shipped
from ifanp_jax.errors import UserError
from ifanp_jax.inference import store
from ifanp_jax.inference.model import Model
from ifanp_jax.models import parameters
from ifanp_jax.training import runs
from ifanp_jax.training.runs import Run

logger = logging.getLogger(__name__)

ADVICE = "or choose another config.train.init_from"


def read_source(name: str) -> Model:
    """Reads the model that `config.train.init_from` names; a UserError where it cannot be read.

    Args:
      name: of a shipped model, or the path of a file, of an export's folder or of a training's. A folder
        called as a shipped model is "./NAME".
    """
    names, path = shipped.list_names(), pathlib.Path(name).expanduser()
    if name in names:
        return store.read(shipped.find(name))
    if not path.exists():
        raise UserError(
            f"config.train.init_from is {name!r}; choose a shipped model ({', '.join(names)}), or give the "
            "folder of a training or of an export."
        )
    file = store.find_file(path)
    return store.read(file) if file else runs.load(path).model


def take_variables(key: jax.Array, run: Run, source: Model) -> dict[str, Any]:
    """What a fresh start of `run` takes of `source`, and one log line that says it.

    Args:
      key: draws the arrays that `source` has not.
      run: about to start; its state is not used.
      source: what `config.train.init_from` names.

    Returns:
      What `source` completes with: its parameters (the moving average where it has one) and the model's other
      collections, float32, on the host. The same model with more blocks also has drawn arrays.

    Raises:
      UserError: when an array of `source` has no place in the model, or the model is another one with arrays
        of its own. Sizes of images may differ where no array depends on it.
    """
    name, found = run.config.train.init_from, _flatten(jax.device_get(source.variables))
    differing = _list_differing(run, source)
    expected = _flatten(parameters.abstract_variables(run.module, run.image_shape))
    drawn = expected.keys() - found.keys()
    is_other_model = run.config.model.name != source.config.model.name
    if _describe(found).items() - _describe(expected).items() or (drawn and is_other_model):
        raise UserError(_explain(run, source, differing))
    if drawn:
        draw = jax.jit(lambda key: parameters.init_variables(key, run.module, run.image_shape))
        found = _flatten(jax.device_get(draw(key))) | found
    logger.info(
        "Parameters of %s, %s after %s steps%s%s; the optimiser and the steps start anew.",
        name,
        source.config.model.name,
        f"{source.step:,}",
        f", here with {'; '.join(differing)}" if differing else "",
        f", {sum(found[path].size for path in drawn):,} values of the new blocks drawn" if drawn else "",
    )
    return traverse_util.unflatten_dict(found)


def _list_differing(run, source) -> list[str]:
    """Names of models or, where they are the same, their fields: "model.width: 32 -> 8"."""
    name = run.config.model.name
    known = models.default_fields(name) if source.config.model.name == name else ()
    described = [
        {"name": one.config.model.name} | {field: getattr(one.module, field) for field in known}
        for one in (source, run)
    ]
    return configuration.differences(*(ConfigDict({"model": fields}) for fields in described))


def _flatten(variables) -> dict[tuple[str, ...], Any]:
    return traverse_util.flatten_dict(dict(variables))


def _describe(flat) -> dict[tuple[str, ...], tuple]:
    """Shape and dtype of every array by its path."""
    return {path: (x.shape, x.dtype) for path, x in flat.items()}


def _explain(run, source, differing) -> str:
    """Why the parameters do not fit, what would, and what to do."""
    said = f"config.train.init_from={run.config.train.init_from}"
    (h, w, c), shape, model = source.image_shape, run.image_shape, source.config.model.name
    if model != run.config.model.name:
        return (
            f"{said} is {model} but this training is of {run.config.model.name}; name that model behind the "
            f"configuration's file, --config=FILE:{model}, {ADVICE}."
        )
    if c != shape[-1]:
        facts = f"{said} takes images of {c} channels but these have {shape[-1]}"
        return f"{facts}; set config.data.channels={c}, {ADVICE}."
    if differing:
        facts = f"{said} has other arrays than this model ({'; '.join(differing)})"
        return f"{facts}; set these fields as there, {ADVICE}."
    return (
        f"{said} is for images of {h}x{w} pixels, on which the parameters of {model} depend, but these have "
        f"{shape[0]}x{shape[1]}; set config.data.image_size={h}, {ADVICE}."
    )
