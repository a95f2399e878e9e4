"""A working directory that holds another run, or none that can be read: nothing saved is lost."""

import dataclasses

import chex
import pytest

import ifanp_jax
from ifanp_jax.errors import UserError
from ifanp_jax.training import metrics_file, runs
from tests import tiny
from tests.training.short_run import fail, make_config, snapshot, spoil, train


def test_the_log_tells_a_fresh_start_from_a_resumed_run(tmp_path, caplog):
    with caplog.at_level("INFO", "ifanp_jax"):
        train(tmp_path, **{"train.num_steps": 2})
        assert f"Fresh start in {tmp_path}." in caplog.text and "Resumed" not in caplog.text
        caplog.clear()
        train(tmp_path, allowed_changes=["train.num_steps"], **{"train.num_steps": 3})
        assert f"Resumed {tmp_path} at step 2." in caplog.text and "Fresh" not in caplog.text
        assert "Goes on with another train.num_steps: 2 -> 3" in caplog.text


def test_a_run_goes_on_from_the_step_before_a_damaged_one_bit_for_bit(finished, workdir, caplog):
    spoil(workdir / "checkpoints/step_8/checkpoint.json")
    with caplog.at_level("INFO", "ifanp_jax"):
        run = train(workdir)
    assert "Step 8 is damaged" in caplog.text and f"Resumed {workdir} at step 6." in caplog.text
    chex.assert_trees_all_equal(run.state, finished[1].state)
    steps = [row["step"] for row in metrics_file.read_metrics(workdir)]
    assert steps == list(range(1, 9))


def test_checkpoints_that_cannot_be_read_are_never_a_fresh_start(workdir):
    for step in (4, 6, 8):
        spoil(workdir / f"checkpoints/step_{step}/checkpoint.json")
    before = snapshot(workdir)
    with pytest.raises(UserError) as caught:
        train(workdir)
    for step in (4, 6, 8):
        assert f"step_{step}/checkpoint.json does not match its checksum" in str(caught.value)
    assert snapshot(workdir) == before


def test_another_configuration_is_refused_with_its_fields_and_writes_nothing(workdir):
    before = snapshot(workdir)
    changes = {"seed": 1, "train.learning_rate": 0.001}
    message = fail(workdir, **changes)
    assert "seed: 0 -> 1; train.learning_rate: 0.006 -> 0.001" in message
    assert "--allow_config_change=seed,train.learning_rate." in message
    with pytest.raises(UserError, match=r"\(seed: 0 -> 1\)"):
        train(workdir, allowed_changes=["train.learning_rate"], **changes)
    assert snapshot(workdir) == before


def test_allowed_fields_may_differ_and_no_others(workdir):
    changes = {"train.num_steps": 9, "train.learning_rate": 0.001}
    for allowed in ([], ["train.num_steps"], ["train.num_steps", "train.learning"], ["mask", "seed"]):
        with pytest.raises(UserError, match="holds a run of another configuration"):
            train(workdir, allowed_changes=allowed, **changes)
    runs.check_same_run(workdir, make_config(**changes), (8, 8, 1), allowed_changes=["train"])
    allowed = ["train.num_steps", "train.learning_rate"]
    assert train(workdir, allowed_changes=allowed, **changes).num_steps_done == 9


def test_another_model_is_never_allowed(finished):
    for overrides, shape, difference in (
        ({"model.width": 8}, (8, 8, 1), r"model\.width: 4 -> 8"),
        ({"model.name": "image_np.IFANP"}, (8, 8, 1), r"model\.name: image_np.IFNP -> image_np.IFANP"),
        ({"train.ema_decay": 0.0}, (8, 8, 1), "ema: True -> False"),
        ({}, (8, 8, 3), r"image shape: \(8, 8, 1\) -> \(8, 8, 3\)"),
    ):
        allowed = ["model", *overrides, "train", "image shape"]
        with pytest.raises(UserError, match=f"holds a run of another model .*{difference}"):
            runs.check_same_run(finished[0], make_config(**overrides), shape, allowed_changes=allowed)


def test_other_training_images_are_refused_wherever_they_lie(workdir):
    others = dataclasses.replace(tiny.digits(), train=tiny.digits().train[::-1])
    before = snapshot(workdir)
    with pytest.raises(UserError, match=r"on other training images \(1497 images -> 1497, or others of them"):
        train(workdir, dataset=others)
    assert snapshot(workdir) == before
    assert train(workdir, dataset=others, allowed_changes=["data"]).num_steps_done == 8


def test_a_run_is_loaded_from_below_the_home_folder(workdir, monkeypatch):
    monkeypatch.setenv("HOME", str(workdir.parent))
    assert ifanp_jax.load("~/run").step == 8


def test_a_run_whose_configuration_is_missing_damaged_or_newer_is_refused(workdir):
    (workdir / "run.json").unlink()
    with pytest.raises(UserError, match=r"run whose run\.json is missing; put it back"):
        runs.check_same_run(workdir, make_config(), (8, 8, 1))
    for text, message in (
        ('{"format": 9}', r"run\.json has format 9, but this version reads 1: take the version"),
        ('{"format": 1', r"run\.json cannot be read \(.*\); restore it"),
        ("[]", r"run\.json cannot be read \(.*\); restore it"),
    ):
        (workdir / "run.json").write_text(text)
        with pytest.raises(UserError, match=message):
            runs.check_same_run(workdir, make_config(), (8, 8, 1))


def test_before_the_first_checkpoint_everything_may_change(tmp_path):
    runs.write(tmp_path, make_config(), (8, 8, 1))
    (tmp_path / "checkpoints/unfinished_2").mkdir(parents=True)
    other = make_config(**{"model.width": 8, "seed": 1})
    runs.check_same_run(tmp_path, other, (8, 8, 1))
    (tmp_path / "checkpoints/damaged_2").mkdir()
    with pytest.raises(UserError, match="holds a run of another model"):
        runs.check_same_run(tmp_path, other, (8, 8, 1))
