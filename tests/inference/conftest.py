"""Models that answer at random, made without compiling anything."""

import dataclasses

import pytest

from ifanp_jax.inference.model import Model
from ifanp_jax.inference.sizes import Limits
from tests import helpers, tiny

TILED_FIELDS = {"latent_dim": 0, "widths": (4, 6), "down_blocks": (1, 1), "up_blocks": (1,), "sigma": 0.2}


def make_completion_model(name="image_np.IFANP", *, image_shape=(8, 8, 1), **fields):
    """A `Model` of a tiny model with random variables."""
    model = tiny.make_model(name, channels=image_shape[-1], **fields)
    variables = helpers.random_variables(model, image_shape, spread=0.2)  # in [0, 1], mostly
    return Model(module=model, variables=variables, config=None, step=0, image_shape=image_shape)


@pytest.fixture(scope="session")
def make_model():
    return make_completion_model


@pytest.fixture(scope="session")
def model():
    return make_completion_model()


@pytest.fixture(scope="session")
def colour_model():
    return make_completion_model(image_shape=(8, 8, 3))


def make_tiled_model():
    """A model for pictures of any size, with tiles of 32 pixels of which the middle 16 count."""
    model = make_completion_model("multiscale_np.MultiscaleNP", image_shape=(32, 32, 3), **TILED_FIELDS)
    return dataclasses.replace(model, limits=Limits(tile_sides=(32,)))


@pytest.fixture(scope="session")
def tiled_model():
    return make_tiled_model()
