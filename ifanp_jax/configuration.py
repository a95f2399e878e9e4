"""Checks of a configuration before anything is compiled."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from ifanp_jax import objectives
from ifanp_jax.data import augment, masks
from ifanp_jax.errors import UserError

# What a protocol sets, whatever the fields say.
PROTOCOLS = {
    "": {},
    "paper": {
        "mask.kind": "random",
        "mask.fraction": (0.3, 0.6),
        "objective.target": "all",
        "evaluate.fractions": (0.2, 0.4, 0.6),
        "evaluate.uniform_fraction": 0.0,
    },
    "npf": {
        "mask.kind": "random",
        "mask.fraction": (0.0, 0.3),
        "objective.target": "all",
        "model.likelihood": "per_pixel",
        "model.sigma_floor": 0.01,
        "model.has_covariance": False,
        "evaluate.fractions": (),
        "evaluate.uniform_fraction": 0.3,
        "evaluate.halves": False,
    },
}
# The size at which a protocol takes the images of a data set; other data stay as configured.
GEOMETRIES = {
    ("npf", "mnist"): {"data.image_size": 32, "data.crop_size": 0, "data.crop_box": ()},
    ("npf", "celeb_a"): {"data.image_size": 32, "data.crop_size": 0, "data.crop_box": (0, 0, 218, 178)},
}
CHOICES = {
    "protocol": tuple(PROTOCOLS),
    "data.placement": ("auto", "device", "stream"),
    "data.flips": augment.FLIPS,
    "train.optimizer": ("adam", "muon"),
    "mask.kind": masks.KINDS,
    "objective.target": objectives.TARGETS,
}
# These may differ when a run goes on: of its numbers they change rounding at most. Where the images lie is
# free, what they are is checked by `runs.check_same_images`.
FREE_FIELDS = (
    "data.dir", "data.cache_dir", "data.placement", "data.partition_file", "train.steps_per_dispatch",
    "train.checkpoint_every", "train.checkpoint_minutes", "train.num_checkpoints", "train.keep_every",
    "evaluate.batch_size", "evaluate.classical_images", "evaluate.figure_images",
)  # fmt: skip
LABELLED = ("folder", "arrays")  # sources for which `data.name` is no more than a label
# Lowest allowed value; None as upper bound = no limit.
RANGES = {
    "seed": (0, 2**32 - 1),
    "data.eval_fraction": (0, 1),
    "objective.num_samples": (1, None),
    "objective.kl_weight": (0, None),
    "data.random_crop": (0, None),
    "data.tile_size": (0, None),
    "train.adam_share": (0, None),
    "train.num_steps": (1, 2**31 - 1),
    "train.batch_size": (1, None),
    "train.steps_per_dispatch": (0, None),
    "train.learning_rate": (0, None),
    "train.warmup_steps": (0, None),
    "train.weight_decay": (0, None),
    "train.max_grad_norm": (0, None),
    "train.ema_decay": (0, 0.999999),
    "train.log_every": (1, None),
    "train.validate_every": (0, None),
    "train.checkpoint_every": (1, None),
    "train.checkpoint_minutes": (0, None),
    "train.num_checkpoints": (1, None),
    "train.keep_every": (0, None),
    "evaluate.seed": (0, 2**32 - 1),
    "evaluate.num_images": (0, None),
    "evaluate.uniform_fraction": (0, 1),
    "evaluate.num_samples": (1, None),
    "evaluate.rounds": (0, None),
    "evaluate.rounds_images": (1, None),
    "evaluate.batch_size": (1, None),
    "evaluate.classical_images": (0, None),
    "evaluate.figure_images": (0, None),
}


def apply_protocol(config: ConfigDict, *, trained: ConfigDict | None = None) -> None:
    """Sets the fields that `config.protocol` speaks of.

    Args:
      config: as in `configs/default.py`; changed.
      trained: configuration of a model that is trained already: it keeps its own fields.

    Raises:
      UserError: for an unknown protocol, or one that speaks of a field that the model does not have.
    """
    if config.protocol not in PROTOCOLS:
        allowed = ", ".join(map(repr, PROTOCOLS))
        raise UserError(f"config.protocol is {config.protocol!r}; choose one of {allowed}.")
    fields = PROTOCOLS[config.protocol] | GEOMETRIES.get((config.protocol, config.data.name), {})
    for name in fields:
        group, _, field = name.partition(".")
        if trained is not None and group == "model":
            fields[name] = trained.model.get(field, config.model.get(field))
        if field not in config[group]:
            raise UserError(
                f"config.protocol={config.protocol} sets config.{name}, which {config.model.name} does not "
                "have; choose another model or protocol."
            )
        config[group][field] = fields[name]


def check(config: ConfigDict) -> None:
    """Raises a UserError for the first value that cannot work.

    The model, the step and the data sources check their own fields when they are built.

    Args:
      config: as in `configs/default.py`.
    """
    fields = flatten(config)
    for name, allowed in CHOICES.items():
        if fields[name] not in allowed:
            raise UserError(f"config.{name} is {fields[name]!r}; choose one of {', '.join(allowed)}.")
    for name, (low, high) in RANGES.items():
        if not (low <= fields[name] and (high is None or fields[name] <= high)):
            limit = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"config.{name} is {fields[name]}; it must be {limit}.")
    masks.check(config.mask)
    fractions = config.evaluate.fractions
    if not all(isinstance(fraction, int | float) and 0 <= fraction <= 1 for fraction in fractions):
        raise UserError(f"config.evaluate.fractions is {fractions}; give observed shares in [0, 1].")


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Lists the fields that differ, one `name: old -> new` each."""
    old_fields, new_fields = flatten(old), flatten(new)
    names = sorted(set(old_fields) | set(new_fields))
    return [
        f"{name}: {old_fields.get(name, 'absent')} -> {new_fields.get(name, 'absent')}"
        for name in names
        if old_fields.get(name) != new_fields.get(name)
    ]


def changes(old: ConfigDict, new: ConfigDict, *, allowed: Sequence[str] = ()) -> list[str]:
    """Lists the `differences` that change a run, less those of the fields (or groups of fields) `allowed`.

    Args:
      old: of the run so far.
      new: asked for now.
      allowed: dotted names such as "train.num_steps", or "train" for all of that group.
    """
    free = (*FREE_FIELDS, *allowed)
    if "data" in new and new.data.source in LABELLED:
        free += ("data.name",)
    return [line for line in differences(old, new) if not _is_of(line.partition(":")[0], free)]


def _is_of(name: str, fields: Sequence[str]) -> bool:
    """Whether a field is one of `fields`, or in a group of them."""
    return any(name == field or name.startswith(f"{field}.") for field in fields)


def flatten(config: ConfigDict, *, prefix: str = "") -> dict[str, object]:
    """Returns dotted names and values; tuples become lists, as in JSON."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            fields |= flatten(value, prefix=f"{prefix}{name}.")
        else:
            fields[prefix + name] = list(value) if isinstance(value, tuple) else value
    return fields
