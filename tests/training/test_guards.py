"""Steps that cannot be done or must not be kept: one sentence, and nothing saved is lost."""

import re
import shutil
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import metrics_file, runs
from tests.training.short_run import after_each, list_steps, record_launches, train


@pytest.mark.parametrize(
    ("first_bad", "steps_per_dispatch"),
    [
        (5, 1),  # found when step 6 is under way
        (6, 1),  # found before the checkpoint that is due, and before the next dispatch
        (5, 2),  # 5 and 6 are one dispatch, which a checkpoint ends
    ],
)
def test_a_loss_that_is_not_finite_stops_within_a_dispatch(workdir, tmp_path, first_bad, steps_per_dispatch):
    def spoil_from(state, metrics):
        steps = state.step - jnp.arange(len(metrics["loss"]))[::-1]
        params = jax.tree.map(lambda x: x + jnp.where(state.step >= first_bad, jnp.nan, 0.0), state.params)
        loss = metrics["loss"] + jnp.where(steps >= first_bad, jnp.nan, 0.0)
        return state.replace(params=params), metrics | {"loss": loss}

    launched = []

    def wrap_steps(train_steps):
        return record_launches(launched)(after_each(spoil_from)(train_steps))

    with pytest.raises(UserError, match=rf"loss is nan at step {first_bad} \(grad_norm .*, seed 0\)"):
        train(tmp_path / "bad", wrap_steps=wrap_steps, **{"train.steps_per_dispatch": steps_per_dispatch})
    assert launched[-1] == 6
    assert list_steps(tmp_path / "bad") == {2, 4}
    for step in (6, 8):
        shutil.rmtree(workdir / f"checkpoints/step_{step}")
    chex.assert_trees_all_equal(runs.load(tmp_path / "bad").state, runs.load(workdir).state)


@pytest.mark.parametrize("part", ["params", "ema_params"])
def test_a_state_that_is_not_finite_is_never_saved(tmp_path, part):
    def spoil_part(
        state, metrics
    ):  # the loss of this step was computed before, the next one's comes too late
        value = jnp.where(state.step == 4, jnp.inf, 0.0)
        return state.replace(**{part: jax.tree.map(lambda x: x + value, getattr(state, part))}), metrics

    with pytest.raises(UserError, match=r"not finite after step 4 \(seed 0\), so they are not saved"):
        train(tmp_path, wrap_steps=after_each(spoil_part))
    assert list_steps(tmp_path) == {2}
    state = runs.load(tmp_path).state
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_a_diverging_run_ends_in_one_sentence(tmp_path):
    overrides = {"train.learning_rate": 1e30, "train.max_grad_norm": 0.0, "train.num_steps": 50}
    with pytest.raises(
        UserError, match=r"The (loss|grad_norm) is (nan|inf) at step \d+ \(\w+ .*, seed 0\)"
    ) as caught:
        train(tmp_path / "run", **overrides)
    assert "lower config.train.learning_rate" in str(caught.value)


def test_a_batch_that_the_devices_cannot_share_ends_before_the_run(tmp_path, monkeypatch):
    mesh = types.SimpleNamespace(size=2)  # of accelerators: on a CPU the mesh follows the batch
    monkeypatch.setattr(device_mesh, "make_mesh", lambda batch_size: mesh)
    with pytest.raises(UserError, match=r"is 9 but 2 devices share a batch equally; choose 8 or 10\.$"):
        train(tmp_path / "run", **{"train.batch_size": 9})
    assert not (tmp_path / "run").exists()


def test_a_batch_beyond_the_memory_ends_before_its_first_step_and_the_suggested_one_fits(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(device_mesh, "device_bytes", lambda device: 4 * 2**20)
    launched = []
    with pytest.raises(UserError, match=r"batch_size=4096 needs about .* GiB .* should fit") as caught:
        train(tmp_path, wrap_steps=record_launches(launched), **{"train.batch_size": 4096})
    assert launched == [1] and not list_steps(tmp_path)  # asked for, but ended when it was compiled
    assert not metrics_file.read_metrics(tmp_path)
    fitting = int(re.search(r"config.train.batch_size=(\d+) should fit", str(caught.value)).group(1))
    assert 8 < fitting < 4096
    run = train(tmp_path, **{"train.batch_size": fitting, "train.num_steps": 1})
    assert run.num_steps_done == 1


def test_a_training_mask_of_another_size_is_told_before_anything_is_written(tmp_path):
    np.save(tmp_path / "mask.npy", np.ones((8, 9), bool))
    with pytest.raises(UserError, match="8x9 pixels but the images are 8x8"):
        train(tmp_path / "run", **{"mask.kind": "file", "mask.file": str(tmp_path / "mask.npy")})
    assert not (tmp_path / "run").exists()
