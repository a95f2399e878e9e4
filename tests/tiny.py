"""The one tiny configuration: compiled in no time, on the 8x8 digits."""

import functools

import numpy as np

from configs import digits_ifanp
from ifanp_jax import models
from ifanp_jax.data import sources
from ifanp_jax.data.dataset import Dataset

FIELDS = {
    "model.width": 8,
    "model.latent_dim": 4,
    "model.encoder_depth": 1,
    "model.decoder_depth": 1,
    "train.num_steps": 6,
    "train.batch_size": 8,
    "train.log_every": 2,
    "train.validate_every": 4,
    "train.checkpoint_every": 3,
    "evaluate.num_images": 8,
    "evaluate.num_samples": 2,
    "evaluate.classical_images": 4,
    "evaluate.figure_images": 2,
}


def make_config(get_config=digits_ifanp.get_config, **overrides):
    """A tiny configuration.

    Args:
      get_config: makes the one that is cut down; its model must have the fields of IFANP.
      **overrides: values by dotted name.
    """
    config = get_config()
    config.update_from_flattened_dict(FIELDS | overrides)
    return config


def make_model(name="image_np.IFANP", *, channels=1, **fields):
    """A tiny model.

    Args:
      name: of `models.list_models()`.
      channels: C.
      **fields: of the model.
    """
    return models.get(make_model_config(name, **fields), channels=channels)


def make_model_config(name="image_np.IFANP", **fields):
    """The part `model` of a tiny configuration; arguments as of `make_model`."""
    small = {field.removeprefix("model."): value for field, value in FIELDS.items()}
    known = models.default_fields(name)
    return models.get_config(name, **{field: small[field] for field in small if field in known} | fields)


@functools.cache
def digits() -> Dataset:
    """The digits that scikit-learn carries, 8x8x1."""
    return sources.load(digits_ifanp.get_config().data)


def noise(num_train=20, num_evaluation=10, shape=(12, 12, 1), seed=0) -> Dataset:
    """Random images, for what the digits are too small for."""
    images = np.random.default_rng(seed).integers(0, 256, (num_train + num_evaluation, *shape), np.uint8)
    return Dataset(name="noise", train=images[:num_train], evaluation=images[num_train:])


def flags(**overrides) -> list[str]:
    """The tiny configuration as flags of a command line."""
    return [f"--config.{name}={value}" for name, value in (FIELDS | overrides).items()]
