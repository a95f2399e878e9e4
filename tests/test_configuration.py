"""The table of fields: ranges, choices, names and protocols."""

import pytest

from configs import celeba_multiscale, default, digits_ifanp, study_digits, study_inpainting
from ifanp_jax import configuration, models, presets
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation.contexts import load_contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.training import loop
from tests import tiny

FIELDS = configuration.FIELDS


def name_contexts(config):
    return list(load_contexts(Options.of(config), (1, 8, 8)))


def refuse(config, *facts):
    """Checks that a configuration is refused with these facts in the message."""
    with pytest.raises(UserError) as caught:
        configuration.prepare(config)
    assert all(fact in str(caught.value) for fact in facts), str(caught.value)


def test_the_defaults_pass_their_own_checks_and_are_locked():
    config = default.get_config()
    configuration.check(config)
    with pytest.raises(AttributeError):
        config.train.learnig_rate = 1.0


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.low is not None])
def test_a_value_outside_of_its_range_is_refused(name):
    field = FIELDS[name]
    values = {field.low - 1} if field.high is None else {field.low - 1, field.high + 1}
    for value in values:
        config = default.get_config()
        config.update_from_flattened_dict({name: type(field.default)(value)})
        refuse(config, f"config.{name}", str(value), str(field.low))
    config.update_from_flattened_dict({name: type(field.default)(field.low)})
    if not name.startswith("mask."):  # of a group of weights one must be above 0
        configuration.check(config)


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.choices])
def test_an_unknown_choice_is_refused(name):
    config = default.get_config()
    config.update_from_flattened_dict({name: "nonsense"})
    refuse(config, f"config.{name}", "'nonsense'", *FIELDS[name].choices)


def test_shares_outside_of_0_to_1_are_refused():
    config = default.get_config()
    config.evaluate.fractions = (0.2, 1.2)
    refuse(config, "config.evaluate.fractions", "1.2", "[0, 1]")


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("train.learnig_rate", "train.learning_rate"),
        ("trian", "train"),
        ("trian.learning_rate", "train.learning_rate"),
        ("mask.shares.boxes", "mask.shares.box"),
        ("sead", "seed"),
        ("study.minuts", "study.minutes"),
    ],
)
def test_a_field_that_does_not_exist_is_refused_with_the_nearest_name(tmp_path, field, nearest):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ifanp_jax import presets\n\n\ndef get_config():\n    config = presets.default().to_dict()\n"
        f"    place = config\n    *groups, last = {field!r}.split('.')\n"
        "    for group in groups:\n        place = place.setdefault(group, {})\n"
        "    place[last] = 1.0\n    import ml_collections\n    return ml_collections.ConfigDict(config)\n"
    )
    with pytest.raises(UserError) as caught:
        presets.load(str(path))
    assert f"config.{field} " in str(caught.value) and str(path) in str(caught.value)
    assert f"config.{nearest}?" in str(caught.value)


def test_a_training_refuses_a_field_that_does_not_exist(tmp_path):
    config = tiny.make_config()
    config.train.learnig_rate = 1.0
    with pytest.raises(UserError, match=r"config\.train\.learnig_rate .*config\.train\.learning_rate"):
        loop.run(config, tmp_path / "run", tiny.digits())
    assert not (tmp_path / "run").exists()


def test_a_configuration_that_lacks_a_field_is_refused():
    config = default.get_config()
    del config.train["warmup_steps"]
    refuse(config, "config.train.warmup_steps")


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


def prepare(config, protocol, **options):
    config.protocol = protocol
    configuration.prepare(config, **options)
    return config


def test_the_npf_protocol_sets_contexts_and_likelihood():
    config = prepare(study_digits.get_config(), "npf")
    assert config.mask.fraction == (0.0, 0.3) and config.model.likelihood == "per_pixel"
    assert name_contexts(config) == ["uniform 0.3"]


def test_our_own_model_takes_the_npf_protocol():
    config = prepare(celeba_multiscale.get_config(), "npf")
    assert models.get(config.model, channels=3).likelihood == "per_pixel"


@pytest.mark.parametrize(
    ("name", "image_size", "crop_box"),
    [("mnist_ifanp", 32, ()), ("celeba_ifanp", 32, (0, 0, 218, 178)), ("study_digits", 0, ())],
)
def test_the_npf_protocol_takes_the_notebooks_images(name, image_size, crop_box):
    config = prepare(presets.load(name), "npf")
    assert (config.data.image_size, config.data.crop_size, config.data.crop_box) == (image_size, 0, crop_box)


def test_the_papers_protocol_sets_random_contexts():
    config = digits_ifanp.get_config()
    config.objective.target = "unobserved"
    prepare(config, "paper")
    assert (config.mask.kind, config.mask.fraction) == ("random", (0.3, 0.6))
    assert config.objective.target == "all"
    assert name_contexts(config)[:4] == ["random 0.2", "random 0.4", "random 0.6", "top 0.5"]


def test_a_trained_model_keeps_its_likelihood_under_any_protocol():
    config, trained = digits_ifanp.get_config(), digits_ifanp.get_config()
    trained.model.update(likelihood="per_image", sigma_floor=0.004)
    config.model = trained.model
    prepare(config, "npf", trained=trained)
    assert (config.model.likelihood, config.model.sigma_floor) == ("per_image", 0.004)
    assert name_contexts(config) == ["uniform 0.3"] and config.mask.fraction == (0.0, 0.3)


@pytest.mark.parametrize("module", [default, study_inpainting])
def test_a_protocol_that_sets_a_field_which_the_model_lacks_is_refused(module):
    config = module.get_config()
    config.protocol = "npf"
    if "likelihood" in config.model:
        del config.model["likelihood"]
    refuse(config, "protocol=npf", "config.model.likelihood", config.model.get("name", "study"))


def test_a_value_that_was_given_is_never_overridden_by_a_protocol():
    config = digits_ifanp.get_config()
    config.mask.fraction = (0.1,)
    with pytest.raises(UserError) as caught:
        prepare(config, "npf", given={"mask.fraction": (0.1,), "seed": 1})
    assert all(fact in str(caught.value) for fact in ("npf", "config.mask.fraction", "(0.0, 0.3)", "(0.1,)"))
    same = {"mask.fraction": (0.0, 0.3), "train.num_steps": 5}  # what it says itself, or nothing of
    assert prepare(digits_ifanp.get_config(), "npf", given=same).mask.fraction == (0.0, 0.3)
