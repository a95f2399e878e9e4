"""How models are found by their name, and their fields."""

import ml_collections
import pytest

from ifanp_jax import models
from ifanp_jax.errors import UserError
from ifanp_jax.models import image_np, point_np


def test_models_are_listed_by_file_and_class():
    names = models.list_models()
    assert {"image_np.IFANP", "point_np.ANP", "vae.MaskedVAE"} <= set(names)
    assert "image_np.ImageNeuralProcess" not in names  # its variants are
    assert "point_np.MaskedAttention" not in names  # a part


def test_the_default_fields_are_those_of_the_module_that_the_variant_leaves_free():
    fields = models.default_fields("point_np.ANP")
    assert fields["width"] == 128 and fields["has_self_attention"] is True
    assert not {"has_attention", "channels", "name", "parent"} & set(fields)
    assert "gca_heads" not in fields and "gca_heads" in models.default_fields("image_np.IFNP")


def test_a_configuration_holds_the_name_and_every_field():
    config = models.get_config("image_np.IFANP", width=16)
    assert config.to_dict() == {"name": "image_np.IFANP"} | models.default_fields("image_np.IFANP") | {
        "width": 16
    }


def test_get_sets_the_fields():
    config = ml_collections.ConfigDict({"name": "image_np.IFANP_GCA", "width": 16, "gca_heads": 2})
    assert models.get(config, channels=3) == image_np.IFANP_GCA(channels=3, width=16, gca_heads=2)


def test_another_name_of_the_same_family_takes_the_same_configuration():
    config = models.get_config("point_np.ANP", width=16)
    config.name = "point_np.CNP"
    assert models.get(config, channels=1) == point_np.CNP(channels=1, width=16)


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "image_np",
        "image_np.Unknown",
        "image_np.ENCODER_EXTRAS",
        "image_np.ImageNeuralProcess",
        "point_np.MaskedAttention",
        "unknown.IFNP",
    ],
)
@pytest.mark.parametrize("take", [models.default_fields, lambda name: models.get({"name": name}, channels=1)])
def test_what_is_no_model_is_told_with_those_that_are(take, name):
    with pytest.raises(UserError, match=r"config\.model\.name is .*choose one of .*image_np\.IFANP, .*vae\."):
        take(name)


@pytest.mark.parametrize("field", ["widht", "channels", "parent", "encoder_extra"])
def test_a_field_that_the_model_does_not_have_is_told_with_those_that_it_has(field):
    with pytest.raises(UserError, match=rf"config\.model\.{field} is no field of image_np\.IFNP.*width"):
        models.get({"name": "image_np.IFNP", field: 1}, channels=1)


def test_the_fields_of_another_family_are_told_with_the_form_that_brings_the_right_ones():
    config = models.get_config("image_np.IFANP")
    config.name = "point_np.ANP"
    with pytest.raises(
        UserError, match=r"no field of point_np\.ANP .*--config=configs/digits\.py:point_np\.ANP"
    ):
        models.get(config, channels=1)
