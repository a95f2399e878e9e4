"""Protocols set contexts, likelihood and images."""

import pytest

from configs import celeba_ifanp, celeba_multiscale, digits_ifanp, mnist_ifanp, study_digits
from ifanp_jax import configuration, models
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation.cells import list_cells


def test_the_npf_protocol_sets_contexts_and_likelihood():
    config = study_digits.get_config()
    config.protocol = "npf"
    configuration.apply_protocol(config)
    configuration.check(config)
    assert config.mask.fraction == (0.0, 0.3) and config.model.likelihood == "per_pixel"
    assert list_cells(config.evaluate) == [("uniform", 0.3)]
    config.protocol = "other"
    with pytest.raises(UserError, match="protocol is 'other'"):
        configuration.apply_protocol(config)


def test_our_own_model_takes_the_npf_protocol():
    config = celeba_multiscale.get_config()
    config.protocol = "npf"
    configuration.apply_protocol(config)
    assert models.get(config.model, channels=3).likelihood == "per_pixel"


@pytest.mark.parametrize(
    ("module", "image_size", "crop_box"),
    [(mnist_ifanp, 32, ()), (celeba_ifanp, 32, (0, 0, 218, 178)), (study_digits, 0, ())],
)
def test_the_npf_protocol_takes_the_notebooks_images(module, image_size, crop_box):
    config = module.get_config()
    config.protocol = "npf"
    configuration.apply_protocol(config)
    assert (config.data.image_size, config.data.crop_size, config.data.crop_box) == (image_size, 0, crop_box)


def test_the_papers_protocol_sets_random_contexts():
    config = digits_ifanp.get_config()
    config.protocol = "paper"
    config.objective.target = "unobserved"
    configuration.apply_protocol(config)
    assert (config.mask.kind, config.mask.fraction) == ("random", (0.3, 0.6))
    assert config.objective.target == "all"
    assert [cell for cell in list_cells(config.evaluate) if cell[0] == "random"] == [
        ("random", 0.2),
        ("random", 0.4),
        ("random", 0.6),
    ]


def test_a_trained_model_keeps_its_likelihood_under_any_protocol():
    config, trained = digits_ifanp.get_config(), digits_ifanp.get_config()
    trained.model.update(likelihood="per_image", sigma_floor=0.004)
    config.model = trained.module
    config.protocol = "npf"
    configuration.apply_protocol(config, trained=trained)
    assert (config.model.likelihood, config.model.sigma_floor) == ("per_image", 0.004)
    assert list_cells(config.evaluate) == [("uniform", 0.3)] and config.mask.fraction == (0.0, 0.3)
