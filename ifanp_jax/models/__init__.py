"""Model families, one file each. A model is found by the name of its file and class."""

import dataclasses
import importlib

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
    file_name, _, class_name = config.name.partition(".")
    try:
        module = importlib.import_module(f"{__name__}.{file_name}")
        model_class = getattr(module, class_name)
        fields = {field.name for field in dataclasses.fields(getattr(model_class, "func", model_class))}
    except (ImportError, AttributeError, TypeError, ValueError):
        raise UserError(
            f"config.model.name is {config.name!r}, which is no model; give FILE.NAME, "
            "for example image_np.IFANP, image_np.IFANP_GCA or image_np.IFNP."
        ) from None
    fields -= {"parent", "name", "channels"}
    given = {name: value for name, value in config.items() if name != "name"}
    unknown = sorted(set(given) - fields)
    if unknown:
        raise UserError(
            f"config.model.{unknown[0]} is no field of {config.name}; its fields are "
            f"{', '.join(sorted(fields))}."
        )
    return model_class(channels=channels, **given)
