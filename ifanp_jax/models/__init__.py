"""Model families, one file each. A model is found by the names of its file and class (or variant)."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from ifanp_jax.errors import UserError
from ifanp_jax.models.base import ImageModel

# Packages whose files hold models; a file is found by its name alone.
_PACKAGES = ("ifanp_jax.models", "ifanp_jax.inpainters.networks")
_NO_FIELDS = ("parent", "name", "channels")  # what Flax and the images decide


def get(config: Mapping[str, Any], *, channels: int) -> ImageModel:
    """Builds the model that `config.name` names, `"image_np.IFANP"` for example.

    Args:
      config: `name`, and the fields to set on the module.
      channels: C of the images.

    Raises:
      UserError: when the name or a field is unknown, or a value cannot work.
    """
    name, given = config.get("name"), {field: value for field, value in config.items() if field != "name"}
    _check_known(name, given)
    return _find(name)(channels=channels, **given)


def get_config(name: str, **given: Any) -> ConfigDict:
    """The part `model` of a configuration: `name` and every field of that model, and no other's.

    Raises:
      UserError: when the name or a field is unknown.
    """
    _check_known(name, given)
    return ConfigDict({"name": name} | default_fields(name) | given)


def default_fields(name: str) -> dict[str, Any]:
    """The fields of a model and their defaults.

    Raises:
      UserError: when the name is unknown.
    """
    fields = dataclasses.fields(_find(name))
    return {field.name: field.default for field in fields if field.name not in _NO_FIELDS}


def list_models() -> list[str]:
    """Names of all models, file by file, in the order of the file."""
    return [f"{file}.{name}" for file in sorted(_find_files()) for name in _models_of(_import(file))]


def _check_known(name: str, given: Mapping[str, Any]) -> None:
    known = default_fields(name)
    unknown = next((field for field in given if field not in known), None)
    if unknown is not None:
        raise UserError(
            f"config.model.{unknown} is no field of {name} (it has {', '.join(sorted(known))}); to train "
            f"another family, name it behind the file, as in --config=configs/digits.py:{name}."
        )


def _find(name: str) -> type[ImageModel]:
    """The class that "file.Class" names."""
    file, _, class_name = str(name).partition(".")
    if file in _find_files():
        found = _models_of(_import(file))
        if class_name in found:
            return found[class_name]
    raise UserError(
        f"config.model.name is {name!r}, which is no model; choose one of {', '.join(list_models())}."
    )


def _find_files() -> dict[str, str]:
    """Names of all files that may hold models, with the packages that they lie in."""
    paths = {package: importlib.import_module(package).__path__ for package in _PACKAGES}
    return {module.name: package for package in paths for module in pkgutil.iter_modules(paths[package])}


def _import(file: str) -> ModuleType:
    return importlib.import_module(f"{_find_files()[file]}.{file}")


def _models_of(module: ModuleType) -> dict[str, type[ImageModel]]:
    """The models that a file defines, by name; of a class with variants in the same file, these alone."""
    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, ImageModel) and value.__module__ == module.__name__
    }
    return {name: model for name, model in own.items() if _is_whole(model, own.values())}


def _is_whole(model, others):
    has_verbs = model.complete is not ImageModel.complete
    return has_verbs and not any(variant in others for variant in model.__subclasses__())
