"""Models that answer at random, made without compiling anything."""

import pytest

from ifanp_jax.completion import CompletionModel
from tests import helpers, tiny


def make_completion_model(name="image_np.IFANP", *, image_shape=(8, 8, 1), **fields):
    """A `CompletionModel` of a tiny model with random variables."""
    model = tiny.make_model(name, channels=image_shape[-1], **fields)
    variables = helpers.random_variables(model, image_shape, spread=0.2)  # in [0, 1], mostly
    return CompletionModel(model=model, variables=variables, config=None, step=0, image_shape=image_shape)


@pytest.fixture(scope="session")
def make_model():
    return make_completion_model


@pytest.fixture(scope="session")
def model():
    return make_completion_model()


@pytest.fixture(scope="session")
def colour_model():
    return make_completion_model(image_shape=(8, 8, 3))
