"""The training loop on the embedded digits: resume, logs, loop."""

import shutil

import chex
import jax
import jax.numpy as jnp
import pytest

from configs import digits_ifanp
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import evaluate, scores
from ifanp_jax.training import loop, metrics_file, runs
from tests import helpers, tiny
from tests.training import short_run


class KilledError(Exception):
    """In place of a kill."""


def validate(run):
    return {"val/psnr": float(run.num_steps_done)}


FIELDS = {"model.name": "image_np.IFNP", "model.width": 4, "model.latent_dim": 2}


def make_config(**overrides):
    return tiny.make_config(**FIELDS | overrides)


def train(workdir, dataset=None, *, wrap_steps=lambda steps: steps, **overrides):
    config = make_config(**overrides)
    return loop.run(config, workdir, dataset or tiny.digits(), validate=validate, wrap_steps=wrap_steps)


def kill_after(step):
    def change(state, metrics):
        if state.step > step:
            raise KilledError
        return state, metrics

    return short_run.after_each(change)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, train(workdir)


def assert_same(workdir, run, uninterrupted):
    chex.assert_trees_all_equal(run.state, uninterrupted[1].state)
    assert helpers.read_rows(workdir) == helpers.read_rows(uninterrupted[0])


SLOW_TWIN = pytest.param("device", marks=pytest.mark.slow)


@pytest.mark.parametrize("placement", ["stream", SLOW_TWIN])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path, uninterrupted, placement):
    overrides = {"data.placement": placement}
    # The schedule depends on num_steps, so the first part must be cut off, not configured shorter.
    with pytest.raises(KilledError):
        train(tmp_path, wrap_steps=kill_after(4), **overrides)
    assert runs.load(tmp_path).num_steps_done == 3
    before = metrics_file.read_metrics(tmp_path)[0]["train/seconds"]
    assert_same(tmp_path, train(tmp_path, **overrides), uninterrupted)
    rows = metrics_file.read_metrics(tmp_path)
    assert before < next(row["train/seconds"] for row in rows if row["step"] == 6)  # it goes on counting


def test_a_resumed_run_keeps_what_is_between_two_rows(tmp_path, uninterrupted):
    overrides = {"train.checkpoint_every": 1, "train.num_checkpoints": 9}
    train(tmp_path, **overrides)
    for step in (2, 4, 5, 6):
        shutil.rmtree(tmp_path / f"checkpoints/step_{step}")
    assert_same(tmp_path, train(tmp_path, **overrides), uninterrupted)


@pytest.mark.parametrize(
    ("placement", "num_steps"), [("device", 3), pytest.param("stream", 2, marks=pytest.mark.slow)]
)
def test_steps_in_one_dispatch_equal_steps_one_by_one_bit_for_bit(
    tmp_path, uninterrupted, placement, num_steps
):
    # 3 do not divide the validation's period: dispatches of 3, 1 and 2 steps, with a row in the midst of one.
    # 2 do not divide the checkpoints' period: dispatches of 2, 1, 1 and 2 steps.
    run = train(tmp_path, **{"train.steps_per_dispatch": num_steps, "data.placement": placement})
    assert_same(tmp_path, run, uninterrupted)


def test_the_accelerators_scan_equals_steps_one_by_one_up_to_rounding(tmp_path, uninterrupted, monkeypatch):
    # A loop on the device, not unrolled: on a CPU its convolutions are rounded otherwise.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    run = train(tmp_path, **{"train.steps_per_dispatch": 2})
    chex.assert_trees_all_close(run.variables, uninterrupted[1].variables, atol=1e-5)
    rows, expected_rows = helpers.read_rows(tmp_path), helpers.read_rows(uninterrupted[0])
    for row, expected in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


def test_metrics_are_fetched_when_the_next_dispatch_is_under_way(tmp_path, monkeypatch):
    launched, events = [], []

    def record(state, metrics):
        launched.append(metrics)
        events.append(("launch", len(launched)))
        return state, metrics

    def recorded_get(tree):
        events.extend(("fetch", index) for index, metrics in enumerate(launched, 1) if metrics is tree)
        return device_get(tree)

    device_get = jax.device_get
    monkeypatch.setattr(jax, "device_get", recorded_get)
    overrides = {"train.log_every": 1, "train.checkpoint_every": 4, "train.validate_every": 0}
    train(tmp_path, wrap_steps=short_run.after_each(record), **overrides, **{"train.num_steps": 5})
    assert events == [
        ("launch", 1),
        ("launch", 2),
        ("fetch", 1),
        ("launch", 3),
        ("fetch", 2),
        ("launch", 4),
        ("fetch", 3),
        ("fetch", 4),  # a checkpoint: all is written before it
        ("launch", 5),
        ("fetch", 5),
    ]


def test_a_finished_run_trains_no_further(uninterrupted):
    assert_same(uninterrupted[0], train(uninterrupted[0]), uninterrupted)


def test_metrics_have_the_promised_names(uninterrupted):
    rows = metrics_file.read_metrics(uninterrupted[0])
    assert [row["step"] for row in rows] == [2, 4, 4, 6, 6]  # logged, logged, validated, end
    names = ("loss", "kl", "mse", "psnr", "learning_rate", "seconds", "steps_per_second", "images_per_second")
    assert {f"train/{name}" for name in names} <= set(rows[0])
    assert rows[0]["train/images_per_second"] == pytest.approx(8 * rows[0]["train/steps_per_second"])
    seconds = [row["train/seconds"] for row in rows if "train/seconds" in row]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert rows[2] == {"step": 4, "val/psnr": 4.0}


def test_load_restores_the_run(uninterrupted):
    workdir, trained = uninterrupted
    run = runs.load(workdir)
    chex.assert_trees_all_equal(run.state, trained.state)
    assert run.image_shape == (8, 8, 1) and run.module == trained.module
    assert run.config.to_dict() == make_config().to_dict()


def test_another_model_in_the_same_workdir_is_refused(uninterrupted):
    with pytest.raises(UserError, match=r"model.name: image_np.IFNP -> image_np.IFANP"):
        train(uninterrupted[0], **{"model.name": "image_np.IFANP"})


def test_loading_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"run.json is missing"):
        runs.load(tmp_path)
    runs.write(tmp_path, tiny.make_config(), (8, 8, 1))
    with pytest.raises(UserError, match="holds no checkpoint"):
        runs.load(tmp_path)
    config = tiny.make_config()
    del config.train["optimizer"]
    runs.write(tmp_path, config, (8, 8, 1))
    with pytest.raises(UserError, match=r"run\.json lacks a field .*optimizer"):
        runs.load(tmp_path)
    (tmp_path / runs.FILE_NAME).write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        runs.load(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    def poison(state, metrics):
        return state, metrics | {"loss": metrics["loss"] + jnp.where(state.step > 4, jnp.nan, 0.0)}

    with pytest.raises(UserError, match=r"loss is nan at step 5 \(grad_norm [\d.]+, seed 0\)"):
        train(tmp_path, wrap_steps=short_run.after_each(poison))
    assert runs.load(tmp_path).num_steps_done == 3


def test_another_seed_gives_another_run(tmp_path, uninterrupted):
    other = train(tmp_path, seed=1)
    leaves = zip(jax.tree.leaves(other.variables), jax.tree.leaves(uninterrupted[1].variables), strict=True)
    assert any((a != b).any() for a, b in leaves)


@pytest.mark.slow
def test_a_short_training_beats_interpolation(tmp_path):
    config = digits_ifanp.get_config()
    config.train.num_steps = 400
    config.evaluate.halves = False
    evaluation, _ = evaluate.evaluate(loop.run(config, tmp_path, tiny.digits()).model, tiny.digits())
    for cell, least in zip(evaluation["cells"], (13.0, 15.5, 18.0), strict=True):
        assert cell["psnr_completed"] > least
        best = scores.best_classical(evaluation["classical"], cell)
        assert cell["psnr_completed"] > best["psnr_completed"] + 1


def test_a_clock_that_is_late_saves_once(tmp_path):
    times = iter([0.0, 59.0, 61.0, 62.0, 200.0, 201.0])
    clock = loop.SaveClock(1.0, clock=lambda: next(times))
    assert [clock.is_late() for _ in range(3)] == [False, True, True]  # a restart reads the clock again
    assert not loop.SaveClock(0.0, clock=lambda: 1e9).is_late()


def test_a_checkpoint_is_saved_when_the_last_one_is_too_old(tmp_path):
    overrides = {"train.checkpoint_every": 100, "train.num_checkpoints": 9}
    train(tmp_path, **overrides, **{"train.checkpoint_minutes": 1e-9})
    assert short_run.list_steps(tmp_path) == {1, 2, 3, 4, 5, 6}


def test_a_run_that_would_see_too_many_images_is_refused(tmp_path):
    most = 2**32 // 8
    loop.check_length(make_config(**{"train.num_steps": most}), 1)
    with pytest.raises(UserError, match=r"with 16 images .*config\.train\.num_steps=268435456\.$"):
        loop.check_length(make_config(**{"train.num_steps": most}), 2)
    with pytest.raises(UserError, match=rf"num_steps is {most + 1} with 8 images.* at most 4,294,967,296"):
        train(tmp_path, **{"train.num_steps": most + 1})
    assert not list(tmp_path.iterdir())
