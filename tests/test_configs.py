"""The configurations: each takes a step, any model takes any data, and a study takes the same sizes."""

import importlib
import pathlib

import chex
import jax
import jax.numpy as jnp
import pytest

from configs import (
    ablation_celeba,
    celeba,
    celeba_ifanp,
    celeba_multiscale,
    digits,
    digits_ifanp,
    faces64,
    mnist,
    mnist_ifanp,
    study_inpainting,
    study_inpainting_cpu,
)
from ifanp_jax import configuration, models
from ifanp_jax.data import sampling
from ifanp_jax.errors import UserError
from ifanp_jax.study import one_run
from ifanp_jax.training import runs
from tests.models.table import MODELS

CONFIGS = sorted(path.stem for path in (pathlib.Path(__file__).parents[1] / "configs").glob("[!_]*.py"))
STUDIES = [name for name in CONFIGS if name.startswith(("study_", "ablation_"))]


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


OVER_HOLES = ("study_inpainting", "study_inpainting_cpu")
ABLATIONS = ("ablation_celeba",)


@pytest.mark.parametrize("name", [name for name in STUDIES if name not in OVER_HOLES + ABLATIONS])
def test_a_study_holds_each_models_own_fields_at_the_sizes_of_its_data(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    data = {"digits": digits, "mnist": mnist, "celeb_a": celeba}[config.data.name]
    for model in dict.fromkeys(name.partition("-")[0] for name in config.study.models):
        family, variant = model.split(".")
        own = config.study.fields[family][variant].to_dict()
        assert {"name"} | set(own) | set(config.model) == {"name", *models.default_fields(model)}
        if model != "point_np.ANP":  # two cores train a wide one without self-attention
            expected = data.get_config(model).model.to_dict()
            assert own == {field: expected[field] for field in own}


def test_every_run_of_the_ablation_differs_in_what_its_name_says():
    config = ablation_celeba.get_config()
    whole = celeba_multiscale.get_config().model.to_dict()
    for name in config.study.models:
        one = one_run.config_of(config, name, 0)
        change = ablation_celeba.CHANGES.get(name.partition("-")[2], {})
        assert one.model.to_dict() == whole | change.get("model", {})
        assert ("optimizer" in change.get("train", {})) == (one.train.optimizer == "adam")
        if name.endswith(("-no_kernels", "-no_full_resolution")):  # the others are tested as models
            take_step(one, (32, 32, 3))
    assert len(config.study.models) == 7 and len(config.study.order) == 6


def test_the_cheaper_shape_is_compared_at_equal_steps_with_three_seeds():
    config = ablation_celeba.get_config("shape")
    whole, cheaper = (one_run.config_of(config, name, 2) for name in config.study.models)
    assert whole.train == cheaper.train and config.study.minutes == 0 and len(config.study.seeds) == 3
    assert cheaper.model.to_dict() == whole.model.to_dict() | {"down_blocks": (1, 1, 2, 1)}
    take_step(cheaper, (32, 32, 3))
    with pytest.raises(UserError, match="'x' names no part of this study; give parts or shape"):
        ablation_celeba.get_config("x")


@pytest.mark.parametrize("module", [study_inpainting, study_inpainting_cpu])
def test_every_run_of_a_study_over_holes_is_another_model_or_training(module):
    config = module.get_config()
    side, counts = config.data.image_size, set()
    for name in config.study.models:
        one = one_run.config_of(config, name, 0)
        configuration.check(one)
        assert one.mask.kind == "inpainting" and "study" not in one
        run = runs.make(one, (side, side, 3))
        counts.add((one.model.to_json(), one.step.to_json()))
        assert run.module.step == ("elbo" if name in study_inpainting.NEURAL_PROCESSES else "adversarial")
        assert run.module.takes_size((side, side), (side, side)) is None
    assert len(counts) == len(config.study.models)
    pairs = [pair for pair in config.study.order if set(pair) <= set(config.study.models)]
    assert ("shift_net.ShiftNet", "se_shift_net.SEShiftNet") in pairs and len(pairs) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("model", study_inpainting_cpu.MODELS)
def test_every_run_of_the_study_for_two_cores_takes_a_step(model):
    take_step(study_inpainting_cpu.get_config(model), (64, 64, 3))


def test_one_run_of_the_study_by_itself_is_the_studys():
    name = "deepfill.DeepFill64-no_attention"
    config = study_inpainting_cpu.get_config()
    one = study_inpainting_cpu.get_config(name)
    assert one.to_dict() == one_run.config_of(config, name, 0).to_dict()
    assert one.model.attention == "none" and one.train.num_steps != faces64.get_config().train.num_steps
    with pytest.raises(UserError, match=r"GLCIC-no_such names no change of this study; it has .*no_critics"):
        one_run.config_of(config, "glcic.GLCIC-no_such", 0)
    with pytest.raises(UserError, match=r"config\.model\.attention is no field of glcic\.GLCIC"):
        one_run.config_of(config, "glcic.GLCIC-no_attention", 0)
