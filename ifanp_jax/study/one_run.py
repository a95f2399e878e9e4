"""One run of a study: its configuration and its folder."""

import pathlib

from ml_collections import ConfigDict

from ifanp_jax import models


def config_of(config: ConfigDict, name: str, seed: int) -> ConfigDict:
    """The configuration of one run: the study's, with the model's own fields, the common ones and the seed.

    Args:
      config: of the study.
      name: of the model, such as "point_np.CNP".
      seed: of the run.
    """
    one = config.copy_and_resolve_references()
    family, _, variant = name.partition(".")
    one.evaluate.classical_images = 0  # the same for every model: the study evaluates them once
    with one.unlocked():
        del one["study"]
        own = config.study.fields.get(family, {}).get(variant, {})
        known = models.default_fields(name)
        common = {field: value for field, value in config.model.items() if field in known}
        one.model = models.get_config(name, **common, **own)
        one.seed = seed
    return one


def own_fields(config: ConfigDict, name: str) -> dict[str, object]:
    """Widths, depths and options of one model, less the fields that are common to all.

    Args:
      config: of the study.
      name: of the model.
    """
    fields = config_of(config, name, 0).model.to_dict()
    return {field: value for field, value in fields.items() if field not in ("name", *config.model)}


def run_dir(workdir: str | pathlib.Path, name: str, seed: int) -> pathlib.Path:
    """The folder of one run in that of the study."""
    return pathlib.Path(workdir) / f"{name}_seed{seed}"
