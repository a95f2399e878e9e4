"""Trainings that start from the parameters of another model."""

import logging

import chex
import jax
import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.inference.model import Model
from ifanp_jax.training import dispatch, init_from, loop, runs
from tests import helpers, tiny
from tests.inpainters import trainings as inpainters
from tests.training import short_run

FIELDS = short_run.FIELDS | {"train.num_steps": 4, "train.ema_decay": 0.9, "train.init_from": "there"}


def make_source(config, image_shape, *, step=7):
    """What a shipped model is: variables of normal numbers, without an optimiser."""
    module = runs.make(config, image_shape).module
    variables = helpers.random_variables(module, image_shape, seed=3)
    return Model(module, variables, config, image_shape, step)


def train(config, workdir, source, *, dataset=None, wrap_steps=lambda steps: steps):
    return loop.run(
        config, workdir, dataset or tiny.digits(), read_source=lambda _: source, wrap_steps=wrap_steps
    )


def first_state(config, workdir, source, *, dataset=None):
    """The state that the first step is given."""
    states = []

    def stop(train_steps):
        def stopping(state, *_):
            states.append(jax.device_get(state))
            raise KeyboardInterrupt

        return stopping

    with pytest.raises(KeyboardInterrupt):
        train(config, workdir, source, dataset=dataset, wrap_steps=stop)
    return states[0]


@pytest.fixture(scope="module")
def source():
    return make_source(tiny.make_config(**FIELDS), (8, 8, 1))


@pytest.mark.parametrize("ema_decay", [0.9, 0.0])
def test_parameters_and_average_are_those_of_the_source_and_the_rest_is_new(
    source, tmp_path, caplog, ema_decay
):
    config = tiny.make_config(**FIELDS | {"train.ema_decay": ema_decay})
    with caplog.at_level(logging.INFO):
        state = first_state(config, tmp_path, source)
    chex.assert_trees_all_equal(state.params, source.variables["params"])
    if ema_decay:
        chex.assert_trees_all_equal(state.ema_params, source.variables["params"])
    else:
        assert state.ema_params is None
    drawn = helpers.make_run(config, (8, 8, 1)).state
    chex.assert_trees_all_equal((state.step, state.opt_state), (drawn.step, drawn.opt_state))
    said = "Parameters of there, image_np.IFNP after 7 steps; the optimiser and the steps start anew."
    assert [record.message for record in caplog.records].count(said) == 1
    assert runs.read(tmp_path)[0].train.init_from == "there"


def test_a_source_with_an_average_gives_what_it_is_evaluated_with(source, tmp_path):
    config = tiny.make_config(**FIELDS)
    trained = train(config, tmp_path / "first", source)
    state = first_state(config, tmp_path / "second", runs.load(tmp_path / "first").model)
    chex.assert_trees_all_equal(state.params, jax.device_get(trained.state.ema_params))
    chex.assert_trees_all_equal(state.ema_params, state.params)


def test_a_resumed_run_never_reads_it_and_ends_bit_for_bit_the_same(source, tmp_path):
    config = tiny.make_config(**FIELDS)
    expected = train(config, tmp_path / "uninterrupted", source)

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", source, wrap_steps=short_run.stop_at(3))

    def refuse(name):
        raise AssertionError(name)

    resumed = loop.run(config, tmp_path / "run", tiny.digits(), read_source=refuse)
    chex.assert_trees_all_equal(resumed.state, expected.state)
    assert helpers.read_rows(tmp_path / "run") == helpers.read_rows(tmp_path / "uninterrupted")
    assert loop.run(config, tmp_path / "run", tiny.digits()).num_steps_done == 4
    other = tiny.make_config(**FIELDS | {"train.init_from": "elsewhere"})
    with pytest.raises(UserError, match=r"train\.init_from: there -> elsewhere"):
        loop.run(other, tmp_path / "run", tiny.digits())


def test_images_of_another_size_and_fields_of_no_shape_will_do(source, tmp_path, caplog):
    config = tiny.make_config(**FIELDS | {"model.sigma_floor": 0.3, "model.compute_dtype": "bfloat16"})
    with caplog.at_level(logging.INFO):
        state = first_state(config, tmp_path, source, dataset=tiny.noise())
    chex.assert_trees_all_equal(state.params, source.variables["params"])
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype("float32")}
    assert "model.compute_dtype: float32 -> bfloat16; model.sigma_floor: 0.01 -> 0.3;" in caplog.text


def test_of_an_inpainter_only_the_generator_is_taken(tmp_path):
    config = inpainters.make_config(**{"train.init_from": "there"})
    source = make_source(config, inpainters.image_shape())
    state = first_state(config, tmp_path, source, dataset=inpainters.dataset())
    chex.assert_trees_all_equal(state.average, source.variables)
    chex.assert_trees_all_equal(state.generator.params, source.variables["params"])
    chex.assert_trees_all_equal(state.generator.batch_stats, source.variables["batch_stats"])
    drawn = helpers.make_run(config, inpainters.image_shape()).step
    expected = jax.jit(lambda key: drawn.init(key, inpainters.image_shape()))
    expected = expected(dispatch.make_streams(config.seed).init)
    chex.assert_trees_all_equal(state.critics, expected.critics)
    chex.assert_trees_all_equal(state.generator.opt_state, expected.generator.opt_state)


def make_multiscale(down_blocks, up_blocks):
    config = tiny.make_config(**{"train.init_from": "there"})
    with config.unlocked():
        config.model = tiny.make_model_config(
            "multiscale_np.MultiscaleNP",
            latent_dim=0,
            widths=(4, 6),
            down_blocks=down_blocks,
            up_blocks=up_blocks,
        )
    return config


def test_a_deeper_model_takes_the_blocks_there_are_and_answers_as_before(caplog):
    source = make_source(make_multiscale((1, 1), (1,)), (8, 8, 1))
    deeper = runs.make(make_multiscale((1, 3), (2,)), (8, 8, 1))
    with caplog.at_level(logging.INFO):
        found = init_from.take_variables(jax.random.key(0), deeper, source)
    new = 2 * 2 * (9 * 6 * 6 + 6) + 2 * (9 * 4 * 4 + 4)
    assert f"model.up_blocks: [1] -> [2], {new:,} values of the new blocks drawn; the opt" in caplog.text
    image, mask = helpers.images_and_masks((8, 8, 1))
    before = source.module.apply(source.variables, image, mask, num_samples=1, method="complete")
    after = deeper.module.apply(found, image, mask, num_samples=1, method="complete")
    chex.assert_trees_all_close(after, before, atol=1e-6)
    with pytest.raises(
        UserError, match=r"other arrays than this model \(model.down_blocks: \[1, 3\] -> \[1, 1\]"
    ):
        init_from.take_variables(
            None, runs.make(source.config, (8, 8, 1)), make_source(deeper.config, (8, 8, 1))
        )


def test_a_model_that_does_not_fit_is_one_sentence():
    cnp, vae = tiny.make_model_config("point_np.CNP"), tiny.make_model_config("vae.VAE", num_halvings=1)
    for there, here, image_shape, facts in (
        (
            cnp,
            tiny.make_model_config("image_np.IFNP"),
            (8, 8, 1),
            ("is point_np.CNP but this training is of image_np.IFNP", "--config=FILE:point_np.CNP"),
        ),
        (cnp, cnp, (8, 8, 3), ("images of 1 channels but these have 3", "config.data.channels=1")),
        (cnp, tiny.make_model_config("point_np.CNP", width=4), (8, 8, 1), ("(model.width: 8 -> 4)",)),
        (vae, vae, (12, 12, 1), ("8x8 pixels", "but these have 12x12", "config.data.image_size=8")),
    ):
        configs = [tiny.make_config(**{"train.init_from": "there"}) for _ in range(2)]
        for config, model in zip(configs, (there, here), strict=True):
            with config.unlocked():
                config.model = model
        source = make_source(configs[0], (8, 8, 1))
        with pytest.raises(UserError) as caught:
            init_from.take_variables(jax.random.key(0), runs.make(configs[1], image_shape), source)
        message = str(caught.value)
        assert message.startswith("config.train.init_from=there ")
        assert message.endswith(", or choose another config.train.init_from.")
        assert all(fact in message for fact in facts), message
