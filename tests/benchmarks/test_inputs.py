"""What the benchmark measures."""

import pytest

from benchmarks import inputs
from configs import celeba_ifanp, default, digits_ifanp, mnist_ifanp
from ifanp_jax.errors import UserError
from ifanp_jax.training import runs
from tests import tiny


def test_the_image_shape_is_given_configured_or_known():
    def shape(config, image_size=0, channels=0):
        return inputs.get_image_shape(config, image_size=image_size, channels=channels)

    assert shape(celeba_ifanp.get_config()) == (32, 32, 3)
    assert shape(digits_ifanp.get_config()) == (8, 8, 1)
    assert shape(digits_ifanp.get_config(), 16, 3) == (16, 16, 3)
    unknown = default.get_config()
    unknown.data.name = "my_pictures"
    with pytest.raises(UserError, match="--image_size"):
        shape(unknown)


def test_the_model_measured_is_the_one_of_the_protocol():
    config = mnist_ifanp.get_config()
    config.protocol = "npf"
    prepared = inputs.prepare(config)
    shape = inputs.get_image_shape(prepared, image_size=0, channels=0)
    assert shape == (32, 32, 1)
    assert runs.make(prepared, shape).module.likelihood == "per_pixel"
    assert config.model.likelihood == "fixed" and config.data.image_size != 32  # what was given is kept


def test_values_that_cannot_work_are_refused():
    with pytest.raises(UserError, match="batch_size"):
        inputs.prepare(tiny.make_config(**{"train.batch_size": 0}))


def test_a_changed_run_is_another_one():
    run = runs.make(tiny.make_config(), (8, 8, 1))
    changed = inputs.change_run(run, image_shape=(4, 4, 1), batch_size=2, learning_rate=0.5)
    assert changed.image_shape == (4, 4, 1) and changed.config.train.batch_size == 2
    assert run.image_shape == (8, 8, 1) and run.config.train.batch_size == 8
    assert inputs.count_step_flops(changed) < inputs.count_step_flops(run)
