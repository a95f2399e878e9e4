"""The configurations: each takes a step, any model takes any data, and a study takes the same sizes."""

import importlib
import pathlib

import chex
import jax
import jax.numpy as jnp
import pytest

from configs import celeba, celeba_ifanp, digits, digits_ifanp, faces64, mnist, mnist_ifanp
from ifanp_jax import configuration, models
from ifanp_jax.data import sampling
from ifanp_jax.training import runs
from tests.models.table import MODELS

CONFIGS = sorted(path.stem for path in (pathlib.Path(__file__).parents[1] / "configs").glob("[!_]*.py"))
STUDIES = [name for name in CONFIGS if name.startswith("study_")]


def take_step(config, image_shape):
    """One training step without computing anything."""
    configuration.check(config)
    run = runs.make(config, image_shape)
    h, w, c = image_shape
    leading = (run.step.num_batches, config.train.batch_size, h, w)
    image = jax.ShapeDtypeStruct((*leading, c), jnp.float32)
    mask = jax.ShapeDtypeStruct((*leading, 1), bool)
    before = runs.abstract_state(run)
    after, metrics = jax.eval_shape(
        run.step.update, jax.random.key(0), before, sampling.Batch(image=image, mask=mask)
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(after, before)
    chex.assert_shape(list(metrics.values()), ())
    assert set(run.step.finite_metrics) <= set(metrics)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in STUDIES])
def test_every_configuration_takes_a_step(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    side = config.data.image_size or {"mnist": 28}.get(config.data.name, 8)
    take_step(config, (side, side, config.data.channels or 1))


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_a_step_on_any_data(model):
    take_step(digits.get_config(model), (8, 8, 1))


@pytest.mark.parametrize(
    ("data", "side", "model"),
    [
        (celeba, 32, "glcic.GLCIC"),
        (celeba, 32, "shift_net.ShiftNet"),
        (faces64, 64, "context_encoder.ContextEncoder"),
        (faces64, 64, "se_shift_net.SEShiftNet"),
    ],
)
def test_inpainters_take_a_step_in_their_small_forms(data, side, model):
    take_step(data.get_config(model), (side, side, 3))


@pytest.mark.parametrize(
    ("named", "data"), [(digits_ifanp, digits), (mnist_ifanp, mnist), (celeba_ifanp, celeba)]
)
def test_the_named_configurations_are_ifanp_on_their_data(named, data):
    assert named.get_config().to_dict() == data.get_config("image_np.IFANP").to_dict()


@pytest.mark.parametrize("model", models.list_models())
def test_a_configuration_holds_the_fields_of_its_model_and_no_others(model):
    assert set(digits.get_config(model).model) == {"name", *models.default_fields(model)}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_holds_each_models_own_fields_at_the_sizes_of_its_data(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    data = {"digits": digits, "mnist": mnist, "celeb_a": celeba}[config.data.name]
    for model in config.study.models:
        family, variant = model.split(".")
        own = config.study.fields[family][variant].to_dict()
        assert {"name"} | set(own) | set(config.model) == {"name", *models.default_fields(model)}
        if model != "point_np.ANP":  # two cores train a wide one without self-attention
            expected = data.get_config(model).model.to_dict()
            assert own == {field: expected[field] for field in own}
