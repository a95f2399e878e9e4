"""The training loop on the embedded digits: resume, logs, guards."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits_ifanp
from ifanp_jax import evaluate, runs, train, writers
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError


def small_config(**overrides):
    config = digits_ifanp.get_config()
    config.update_from_flattened_dict(
        {
            "model.width": 8,
            "model.latent_dim": 4,
            "model.encoder_depth": 1,
            "model.decoder_depth": 1,
            "train.num_steps": 6,
            "train.batch_size": 8,
            "train.log_every": 2,
            "train.validate_every": 4,
            "train.checkpoint_every": 3,
            "evaluate.num_images": 8,
            "evaluate.num_samples": 2,
            "evaluate.classical_images": 4,
        }
        | overrides
    )
    return config


@pytest.fixture(scope="module")
def digits():
    return sources.get(digits_ifanp.get_config().data)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, digits):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, train.run(small_config(), workdir, digits)


def rows_without_speed(workdir):
    """Rows of metrics.jsonl less what a clock decides."""
    return [
        {name: value for name, value in row.items() if not name.endswith("_per_second")}
        for row in writers.read_metrics(workdir)
    ]


def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, digits, uninterrupted, monkeypatch):
    class KilledError(Exception):
        pass

    def kill_at_step_6(step, averages, seed):
        if step > 4:
            raise KilledError

    # The schedule depends on num_steps, so the first part must be cut off, not configured shorter.
    monkeypatch.setattr(train, "_check_finite", kill_at_step_6)
    with pytest.raises(KilledError):
        train.run(small_config(), tmp_path, digits)
    monkeypatch.undo()
    resumed = train.run(small_config(), tmp_path, digits)
    chex.assert_trees_all_equal(resumed, uninterrupted[1])
    assert rows_without_speed(tmp_path) == rows_without_speed(uninterrupted[0])


def test_a_finished_run_trains_no_further(digits, uninterrupted):
    workdir, state = uninterrupted
    again = train.run(small_config(), workdir, digits)
    chex.assert_trees_all_equal(again, state)


def test_metrics_have_the_promised_names(uninterrupted):
    rows = writers.read_metrics(uninterrupted[0])
    assert [row["step"] for row in rows] == [2, 3, 4, 4, 6, 6]  # logged, checkpoint, validated, end
    assert {"train/loss", "train/kl", "train/mse", "train/psnr", "train/images_per_second"} <= set(rows[0])
    assert {"val/psnr", "val/psnr_completed", "val/kl", "val/log_prob"} <= set(rows[3])


def test_load_restores_the_run(uninterrupted):
    workdir, state = uninterrupted
    run = runs.load(workdir)
    chex.assert_trees_all_equal(run.state, state)
    assert run.image_shape == (8, 8, 1)
    assert run.config.to_dict() == small_config().to_dict()


def test_another_model_in_the_same_workdir_is_refused(digits, uninterrupted):
    with pytest.raises(UserError, match=r"model.name: image_np.IFANP -> image_np.IFNP"):
        train.run(small_config(**{"model.name": "image_np.IFNP"}), uninterrupted[0], digits)


def test_loading_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"run.json is missing"):
        runs.load(tmp_path)
    runs.write(tmp_path, small_config(), (8, 8, 1))
    with pytest.raises(UserError, match="holds no checkpoint"):
        runs.load(tmp_path)
    (tmp_path / runs.FILE_NAME).write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        runs.load(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path, digits, monkeypatch):
    def poisoned(*args, **kwargs):
        step = make_train_step(*args, **kwargs)

        def poisoned_step(state, images, num_steps):
            state, metrics = step(state, images, num_steps)
            return state, metrics | {"loss": metrics["loss"] + jnp.where(state.step > 4, jnp.nan, 0.0)}

        return poisoned_step

    make_train_step = train.make_train_step
    monkeypatch.setattr(train, "make_train_step", poisoned)
    with pytest.raises(UserError, match=r"loss is nan at step 6 \(seed 0\)"):
        train.run(small_config(), tmp_path, digits)
    assert int(runs.load(tmp_path).state.step) == 3


def test_seed_decides_the_run(tmp_path, digits, uninterrupted):
    same = train.run(small_config(), tmp_path / "same", digits)
    chex.assert_trees_all_equal(same.params, uninterrupted[1].params)
    other = train.run(small_config(seed=1), tmp_path / "other", digits)
    assert any(
        (a != b).any()
        for a, b in zip(jax.tree.leaves(other.params), jax.tree.leaves(same.params), strict=True)
    )


@pytest.mark.slow
def test_a_short_training_beats_interpolation(tmp_path, digits):
    config = digits_ifanp.get_config()
    config.train.num_steps = 400
    config.evaluate.halves = False
    state = train.run(config, tmp_path, digits)
    model, _, _ = runs.make_model(config, (8, 8, 1))
    evaluation = evaluate.run(config, model, state, digits)
    for cell, least in zip(evaluation["cells"], (13.0, 15.5, 18.0), strict=True):
        assert cell["psnr_completed"] > least
        assert cell["psnr_completed"] > evaluate.best_classical(evaluation, cell)["psnr_completed"] + 1


def test_metric_rows_cut_off_by_a_crash_are_left_out(tmp_path):
    rows = [{"step": step, "train/loss": 1.0} for step in (1, 2, 3)]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "tr'
    (tmp_path / writers.METRICS_FILE).write_text(text)
    writer = writers.MetricWriter(tmp_path, step=2)
    writer.write(3, {"train/loss": 0.5})
    writer.close()
    assert writers.read_metrics(tmp_path) == [*rows[:2], {"step": 3, "train/loss": 0.5}]


def test_averages_are_over_the_window():
    window = [{"loss": jnp.float32(1)}, {"loss": jnp.float32(4)}]
    assert train._average(window) == {"loss": np.float32(2.5)}
