"""Checks of a configuration."""

import pytest

from configs import default
from ifanp_jax import configuration
from ifanp_jax.errors import UserError


def test_every_shipped_field_passes_its_own_check():
    configuration.check(default.get_config())


def test_every_checked_field_exists():
    fields = configuration.flatten(default.get_config())
    assert set(configuration.CHOICES) | set(configuration.RANGES) <= set(fields)


@pytest.mark.parametrize("name", configuration.RANGES)
def test_a_value_below_its_range_is_refused_by_name(name):
    config = default.get_config()
    low = configuration.RANGES[name][0]
    below = low - 1 if isinstance(configuration.flatten(config)[name], int) else low - 1.0
    config.update_from_flattened_dict({name: below})
    with pytest.raises(UserError, match=rf"config.{name} is "):
        configuration.check(config)


@pytest.mark.parametrize("name", configuration.CHOICES)
def test_an_unknown_choice_is_refused_by_name(name):
    config = default.get_config()
    config.update_from_flattened_dict({name: "nonsense"})
    with pytest.raises(UserError, match=rf"config.{name} is 'nonsense'; choose one of"):
        configuration.check(config)


def test_shares_outside_of_0_to_1_are_refused():
    config = default.get_config()
    config.evaluate.fractions = (0.2, 1.2)
    with pytest.raises(UserError, match="observed shares"):
        configuration.check(config)


def test_a_protocol_that_sets_a_field_which_the_model_lacks_is_refused():
    config = default.get_config()
    config.protocol = "npf"
    configuration.apply_protocol(config)
    assert config.model.likelihood == "per_pixel"
    with config.unlocked():
        del config.model["likelihood"]
    with pytest.raises(
        UserError, match=r"protocol=npf sets config\.model\.likelihood, which image_np\.IFANP"
    ):
        configuration.apply_protocol(config)


def test_differences_name_old_and_new():
    old, new = default.get_config(), default.get_config()
    new.train.num_steps = 7
    new.mask.fraction = (0.5,)
    assert configuration.differences(old, new) == [
        "mask.fraction: [0.3, 0.6] -> [0.5]",
        f"train.num_steps: {old.train.num_steps} -> 7",
    ]


@pytest.mark.parametrize(("source", "is_free"), [("folder", True), ("arrays", True), ("tfds", False)])
def test_a_label_of_ones_own_data_changes_no_run(source, is_free):
    old, new = default.get_config(), default.get_config()
    for config in (old, new):
        config.data.source = source
    new.data.name = "holidays"
    assert (configuration.changes(old, new) == []) == is_free
    assert configuration.differences(old, new) == ["data.name: digits -> holidays"]
