"""A generator and a critic fit into the loop, checkpoints, resume, export and completion as they are."""

import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ifanp_jax
from ifanp_jax.errors import UserError
from ifanp_jax.inference import export
from ifanp_jax.training import loop, runs, steps
from tests import helpers, tiny
from tests.training import short_run, two_networks

OVERRIDES = short_run.FIELDS | {"step.name": "two_networks", "train.num_steps": 4, "mask.kind": "random"}


@pytest.fixture(autouse=True, scope="module")
def registered():
    """The step stands among the others, as a file of the folder would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, f"{steps.__name__}.two_networks", two_networks)
        patch.setattr(steps, "list_steps", lambda: ["elbo", "two_networks"])
        yield


def train(workdir, *, wrap_steps=lambda train_steps: train_steps, **overrides):
    config = tiny.make_config(**OVERRIDES | overrides)
    return loop.run(config, workdir, tiny.digits(), wrap_steps=wrap_steps)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, registered):
    """A run to its end."""
    folder = tmp_path_factory.mktemp("two_networks")
    train(folder)
    return folder


@pytest.mark.parametrize("placement", ["stream", pytest.param("device", marks=pytest.mark.slow)])
def test_resumed_equals_uninterrupted(folder, tmp_path, placement):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, wrap_steps=short_run.stop_at(3), **{"data.placement": placement})
    run = train(tmp_path, **{"data.placement": placement})
    chex.assert_trees_all_equal(run.state, runs.load(folder).state)
    assert helpers.read_rows(tmp_path) == helpers.read_rows(folder)
    assert [row["step"] for row in helpers.read_rows(folder)] == [1, 2, 3, 4]


@pytest.mark.slow
def test_several_steps_per_dispatch_are_the_same(folder, tmp_path):
    whole, run = runs.load(folder), train(tmp_path, **{"train.steps_per_dispatch": 2})
    chex.assert_trees_all_equal(run.state, whole.state)


def test_every_update_sees_batches_of_its_own(tmp_path):
    seen = []

    def record(train_steps):
        def recording(state, *arguments):
            seen.append(jax.device_get(state.critic))
            return train_steps(state, *arguments)

        return recording

    after = train(tmp_path, wrap_steps=record, **{"train.num_steps": 1}).state
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), seen[0], after.critic)
    assert changed["params"]["Dense_0"]["kernel"] and int(after.step) == 1


def test_the_generator_completes_and_is_exported(folder, tmp_path):
    run = runs.load(folder)
    image, mask = np.full((8, 8, 1), 0.5, np.float32), np.eye(8, dtype=bool)[..., None]
    result = ifanp_jax.load(folder).complete(image, mask, num_samples=2)
    assert result.samples.shape == (2, 8, 8, 1)
    export.write(run.model, tmp_path / "out", num_samples=2)
    exported = ifanp_jax.load(tmp_path / "out").complete(image, mask, num_samples=2)
    chex.assert_trees_all_close(exported.samples, result.samples, atol=1e-6)


def test_a_critic_that_is_not_finite_ends_the_run(tmp_path):
    def spoil(state, metrics):
        return state, metrics | {"critic_loss": metrics["critic_loss"] * jnp.nan}

    with pytest.raises(UserError, match=r"critic_loss is nan at step 1 \(generator_loss .*, seed 0\)"):
        train(tmp_path, wrap_steps=short_run.after_each(spoil))


def test_an_unknown_step_is_one_sentence():
    with pytest.raises(UserError, match=r"config\.step\.name is 'gan'; choose one of elbo, two_networks"):
        runs.make(tiny.make_config(**{"step.name": "gan"}), (8, 8, 1))
