"""Model families, one file each. A model is found by the name of its file and class."""

import dataclasses
import importlib.util

import flax.linen as nn

from ifanp_jax.errors import UserError


def get(config, *, channels: int):
    """Builds the model that `config.name` names, `"image_np.IFANP"` for example.

    Args:
      config: `name`, and the fields to set on the module.
      channels: C of the images.

    Returns:
      An unbound Flax module with the verbs `__call__` and `complete`.

    Raises:
      UserError: when the name or a field is unknown.
    """
    model_class = _find(config.name)
    if model_class is None:
        raise UserError(
            f"config.model.name is {config.name!r}, which is no model; give FILE.NAME, for example "
            "image_np.IFANP, image_np.IFNP, point_np.ANP or vae.VAE."
        )
    fields = {field.name for field in dataclasses.fields(getattr(model_class, "func", model_class))}
    fields -= {"parent", "name", "channels"}
    given = {name: value for name, value in config.items() if name != "name"}
    unknown = sorted(set(given) - fields)
    if unknown:
        raise UserError(
            f"config.model.{unknown[0]} is no field of {config.name}; its fields are "
            f"{', '.join(sorted(fields))}."
        )
    return model_class(channels=channels, **given)


def _find(name):
    """The class, or the variant of one, that "file.Class" names; None where there is none."""
    file_name, _, class_name = name.partition(".")
    if not file_name.isidentifier() or importlib.util.find_spec(f"{__name__}.{file_name}") is None:
        return None
    found = getattr(importlib.import_module(f"{__name__}.{file_name}"), class_name, None)
    model_class = getattr(found, "func", found)
    is_model = isinstance(model_class, type) and issubclass(model_class, nn.Module)
    is_model = is_model and hasattr(model_class, "complete")  # not one of its parts
    return found if is_model else None
