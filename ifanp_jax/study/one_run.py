"""One run of a study: its configuration and its folder."""

import pathlib

from ml_collections import ConfigDict

from ifanp_jax import configuration, models
from ifanp_jax.errors import UserError
from ifanp_jax.training import steps

CHANGE = "-"  # between a model's name and a change to it


def config_of(config: ConfigDict, name: str, seed: int) -> ConfigDict:
    """The configuration of one run: the study's, with the model's own fields, the common ones and the seed.

    What `study.changes` has under the model's family is set as well, and so is what it has under a change
    that the name ends with.

    Args:
      config: of the study.
      name: of the model, such as "point_np.CNP", or "glcic.GLCIC-no_critics" for one with a change.
      seed: of the run.

    Raises:
      UserError: when a change is unknown, or sets what the model or its step does not have.
    """
    one = config.copy_and_resolve_references()
    name, _, change = name.partition(CHANGE)
    family, _, variant = name.partition(".")
    one.evaluate.classical_images = 0  # the same for every model: the study evaluates them once
    with one.unlocked():
        del one["study"]
        own = config.study.fields.get(family, {}).get(variant, {})
        known = models.default_fields(name)
        common = {field: value for field, value in config.model.items() if field in known}
        one.model = models.get_config(name, **common, **own)
        one.step = steps.get_config(models.get(one.model, channels=1))
        one.seed = seed
    changes = config.study.get("changes", {})
    if change and change not in changes:
        raise UserError(f"{name}{CHANGE}{change} names no change of this study; it has {', '.join(changes)}.")
    for key in (family, change):
        _apply_change(one, name, changes.get(key, {}))
    return one


def _apply_change(one, name, change):
    """Sets fields, of which every one must be there."""
    for group, fields in change.items():
        unknown = [field for field in fields if field not in one[group]]
        if unknown:
            raise UserError(
                f"config.{group}.{unknown[0]} is no field of {name}, so a study cannot change it."
            )
        one[group].update(fields)


def own_fields(config: ConfigDict, name: str) -> dict[str, object]:
    """Widths, depths and options of one model, less the fields that are common to all."""
    fields = config_of(config, name, 0).model.to_dict()
    return {field: value for field, value in fields.items() if field not in ("name", *config.model)}


def describe_changes(config: ConfigDict) -> dict[str, list[str]]:
    """What each change that a name of the study ends with sets, as "mask.kind=varied", by its name."""
    used, changes = dict.fromkeys(name.partition(CHANGE)[2] for name in config.study.models), {}
    for change in filter(None, used):
        fields = configuration.flatten(config.study.changes[change])
        changes[change] = [f"{field}={value}" for field, value in fields.items()]
    return changes


def short_name(name: str) -> str:
    """The name without its file: "glcic.GLCIC-no_critics" gives "GLCIC, no critics".

    Args:
      name: of a model, with or without a change, or of a classical method: "patch_match" gives "patch match".
    """
    if "." not in name:
        return name.replace("_", " ")
    own, _, change = name.rpartition(".")[2].partition(CHANGE)
    return f"{own}, {change.replace('_', ' ')}" if change else own


def run_dir(workdir: str | pathlib.Path, name: str, seed: int) -> pathlib.Path:
    """The folder of one run in that of the study."""
    return pathlib.Path(workdir) / f"{name}_seed{seed}"
