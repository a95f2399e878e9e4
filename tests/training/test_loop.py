"""The training loop on the embedded digits: resume, logs, guards."""

import json
import shutil
import types

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import celeba_ifanp, digits_ifanp
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import evaluate
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import loop, metrics_file, runs


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
    return workdir, loop.run(small_config(), workdir, digits)


def rows_without_speed(workdir):
    """Rows of metrics.jsonl less what a clock decides."""
    return [
        {name: value for name, value in row.items() if not name.endswith("_per_second")}
        for row in metrics_file.read_metrics(workdir)
    ]


@pytest.mark.parametrize("placement", ["device", "stream"])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path, digits, uninterrupted, monkeypatch, placement
):
    config = small_config(**{"data.placement": placement})

    class KilledError(Exception):
        pass

    def kill_at_step_6(step, averages, seed):
        if step > 4:
            raise KilledError

    # The schedule depends on num_steps, so the first part must be cut off, not configured shorter.
    monkeypatch.setattr(train, "_check_finite", kill_at_step_6)
    with pytest.raises(KilledError):
        loop.run(config, tmp_path, digits)
    monkeypatch.undo()
    resumed = loop.run(config, tmp_path, digits)
    chex.assert_trees_all_equal(resumed, uninterrupted[1])
    assert rows_without_speed(tmp_path) == rows_without_speed(uninterrupted[0])


def test_a_checkpoint_is_saved_when_the_last_one_is_too_old(tmp_path, digits, uninterrupted, monkeypatch):
    hours = iter(range(1000))
    clock = types.SimpleNamespace(monotonic=lambda: 3600.0 * next(hours))
    config = small_config(**{"train.checkpoint_every": 100, "train.num_checkpoints": 9})
    with monkeypatch.context() as patch:
        patch.setattr(train, "time", clock)
        state = loop.run(config, tmp_path / "often", digits)
    chex.assert_trees_all_equal(state, uninterrupted[1])
    assert {path.name for path in (tmp_path / "often/checkpoints").iterdir()} == {
        f"step_{step}" for step in range(1, 7)
    }
    # One of them falls between the rows: what it knows of the next row is in it.
    for step in (2, 4, 5, 6):
        shutil.rmtree(tmp_path / "often/checkpoints" / f"step_{step}")
    resumed = loop.run(config, tmp_path / "often", digits)
    chex.assert_trees_all_equal(resumed, uninterrupted[1])
    assert rows_without_speed(tmp_path / "often") == rows_without_speed(uninterrupted[0])

    seldom = {"train.checkpoint_every": 100, "train.checkpoint_minutes": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(train, "time", clock)
        loop.run(small_config(**seldom), tmp_path / "seldom", digits)
    assert [path.name for path in (tmp_path / "seldom/checkpoints").iterdir()] == ["step_6"]


# 3 do not divide the validation's period: dispatches of 3, 1 and 2 steps, with a row in the midst of one.
# 2 do not divide the checkpoints' period: dispatches of 2, 1, 1 and 2 steps.
@pytest.mark.parametrize(("placement", "num_steps"), [("device", 3), ("stream", 2)])
def test_steps_in_one_dispatch_equal_steps_one_by_one_bit_for_bit(
    tmp_path, digits, uninterrupted, placement, num_steps
):
    config = small_config(**{"train.steps_per_dispatch": num_steps, "data.placement": placement})
    state = loop.run(config, tmp_path, digits)
    chex.assert_trees_all_equal(state, uninterrupted[1])
    assert rows_without_speed(tmp_path) == rows_without_speed(uninterrupted[0])


def test_the_accelerators_scan_equals_steps_one_by_one_up_to_rounding(
    tmp_path, digits, uninterrupted, monkeypatch
):
    # A loop on the device, not unrolled: on a CPU its convolutions are rounded otherwise.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    state = loop.run(small_config(**{"train.steps_per_dispatch": 3}), tmp_path, digits)
    chex.assert_trees_all_close(state.params, uninterrupted[1].params, atol=1e-5)
    for row, expected in zip(rows_without_speed(tmp_path), rows_without_speed(uninterrupted[0]), strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("steps_per_dispatch", [1, 3, 7, 100])
@pytest.mark.parametrize("periods", [(), (0, 0), (5,), (4, 6), (3, 0), (1, 9), (50, 7)])
@pytest.mark.parametrize(("start", "end"), [(0, 24), (5, 31), (8, 8), (9, 8)])
def test_dispatches_hold_every_step_once_and_end_at_every_period(start, end, periods, steps_per_dispatch):
    dispatches = list(
        loop.list_dispatches(start, end, steps_per_dispatch=steps_per_dispatch, periods=periods)
    )
    steps = [step for first, num_steps in dispatches for step in range(first, first + num_steps)]
    assert steps == list(range(start, end))
    assert all(1 <= num_steps <= steps_per_dispatch for _, num_steps in dispatches)
    ends = {first + num_steps for first, num_steps in dispatches}
    due = {step for step in range(start + 1, end + 1) for period in periods if period and step % period == 0}
    assert due <= ends
    # None ends early without a reason.
    full = {first + steps_per_dispatch for first, _ in dispatches}
    assert ends <= due | full | {end}


def test_metrics_are_fetched_when_the_next_dispatch_is_under_way(tmp_path, digits, monkeypatch):
    launched, events = [], []

    def make_recorded_step(*args):
        train_steps = with_memory_check(*args)

        def recorded(state, images, num_steps):
            state, metrics = train_steps(state, images, num_steps)
            launched.append(metrics)
            events.append(("launch", len(launched)))
            return state, metrics

        return recorded

    def recorded_get(tree):
        events.extend(("fetch", index) for index, metrics in enumerate(launched, 1) if metrics is tree)
        return device_get(tree)

    with_memory_check, device_get = loop.with_memory_check, jax.device_get
    monkeypatch.setattr(train, "with_memory_check", make_recorded_step)
    monkeypatch.setattr(jax, "device_get", recorded_get)
    periods = {"train.log_every": 1, "train.checkpoint_every": 4, "train.validate_every": 0}
    loop.run(small_config(**periods, **{"train.num_steps": 5}), tmp_path, digits)
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


@pytest.mark.parametrize(("num_bytes", "expected"), [(4 * 1000, False), (4 * 1000 - 8, True)])
def test_images_are_streamed_where_they_exceed_their_share_of_memory(monkeypatch, num_bytes, expected):
    monkeypatch.setattr(sharding, "device_bytes", lambda device: num_bytes)
    mesh, images = device_mesh.make_mesh(), np.zeros((10, 10, 10, 1), np.uint8)
    assert loop.RESIDENT_SHARE == 0.25
    assert loop.must_stream(small_config(), images, mesh) is expected
    # A choice in the configuration wins.
    for placement in ("device", "stream"):
        config = small_config(**{"data.placement": placement})
        assert loop.must_stream(config, images, mesh) is (placement == "stream")


def test_devices_add_up_their_memory(monkeypatch):
    monkeypatch.setattr(sharding, "device_bytes", lambda device: 1000)
    mesh = types.SimpleNamespace(size=4, local_devices=[None])
    images = np.zeros((10, 10, 10, 1), np.uint8)
    assert not loop.must_stream(small_config(), images, mesh)
    mesh.size = 3
    assert loop.must_stream(small_config(), images, mesh)


def steps_per_dispatch(config, image_shape=(32, 32, 3)):
    model, tx, init = runs.make_model(config, image_shape)
    abstract_state = jax.eval_shape(init, jax.random.key(0))
    return loop.choose_steps_per_dispatch(config, model, tx, abstract_state, image_shape)


def test_configured_steps_per_dispatch_win_and_a_cpu_makes_one(monkeypatch):
    assert steps_per_dispatch(small_config()) == 1
    config = small_config(**{"train.steps_per_dispatch": 7})
    assert steps_per_dispatch(config) == 7
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert steps_per_dispatch(config) == 7


def test_an_accelerator_makes_fewer_steps_per_dispatch_of_larger_batches(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    numbers = []
    for batch_size in (64, 512, 2**16):
        config = celeba_ifanp.get_config()
        config.train.batch_size = batch_size
        numbers.append(steps_per_dispatch(config))
    assert loop.MAX_STEPS_PER_DISPATCH >= numbers[0] > numbers[1] > numbers[2] == 1
    assert all(500 % number == 0 for number in numbers)  # checkpoints every 500, validation every 1000 steps


@pytest.mark.parametrize(
    ("most", "checkpoint_every", "validate_every", "expected"),
    [
        (70, 500, 1000, 50),  # a divisor of both, at least half of what fits
        (70, 100, 150, 50),
        (70, 100, 0, 50),
        (70, 97, 0, 70),  # a prime has no good divisor
        (70, 30, 1000, 30),  # never beyond a period; 10 would divide both but is less than half
        (1e9, 100_000, 0, loop.MAX_STEPS_PER_DISPATCH),
        (0.01, 500, 500, 1),  # one step is more than a dispatch should hold
    ],
)
def test_steps_per_dispatch_divide_the_periods_where_that_costs_little(
    monkeypatch, most, checkpoint_every, validate_every, expected
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    step_flops = loop.DISPATCH_FLOPS / most * jax.device_count()
    monkeypatch.setattr(train, "count_step_flops", lambda *args: step_flops)
    config = small_config(
        **{"train.checkpoint_every": checkpoint_every, "train.validate_every": validate_every}
    )
    assert steps_per_dispatch(config) == expected


def test_a_finished_run_trains_no_further(digits, uninterrupted):
    workdir, state = uninterrupted
    again = loop.run(small_config(), workdir, digits)
    chex.assert_trees_all_equal(again, state)


def test_metrics_have_the_promised_names(uninterrupted):
    rows = metrics_file.read_metrics(uninterrupted[0])
    assert [row["step"] for row in rows] == [2, 4, 4, 6, 6]  # logged, logged, validated, end
    assert {"train/loss", "train/kl", "train/mse", "train/psnr", "train/images_per_second"} <= set(rows[0])
    assert {"val/psnr", "val/psnr_completed", "val/kl", "val/log_prob"} <= set(rows[2])


def test_load_restores_the_run(uninterrupted):
    workdir, state = uninterrupted
    run = runs.load(workdir)
    chex.assert_trees_all_equal(run.state, state)
    assert run.image_shape == (8, 8, 1)
    assert run.config.to_dict() == small_config().to_dict()


def test_another_model_in_the_same_workdir_is_refused(digits, uninterrupted):
    with pytest.raises(UserError, match=r"model.name: image_np.IFANP -> image_np.IFNP"):
        loop.run(small_config(**{"model.name": "image_np.IFNP"}), uninterrupted[0], digits)


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
    def poisoned(*args):
        step = with_memory_check(*args)

        def poisoned_step(state, images, num_steps):
            state, metrics = step(state, images, num_steps)
            return state, metrics | {"loss": metrics["loss"] + jnp.where(state.step > 4, jnp.nan, 0.0)}

        return poisoned_step

    with_memory_check = loop.with_memory_check
    monkeypatch.setattr(train, "with_memory_check", poisoned)
    with pytest.raises(UserError, match=r"loss is nan at step 5 \(loss nan, seed 0\)"):
        loop.run(small_config(), tmp_path, digits)
    assert int(runs.load(tmp_path).state.step) == 3


def test_seed_decides_the_run(tmp_path, digits, uninterrupted):
    same = loop.run(small_config(), tmp_path / "same", digits)
    chex.assert_trees_all_equal(same.params, uninterrupted[1].params)
    other = loop.run(small_config(seed=1), tmp_path / "other", digits)
    assert any(
        (a != b).any()
        for a, b in zip(jax.tree.leaves(other.params), jax.tree.leaves(same.params), strict=True)
    )


@pytest.mark.slow
def test_a_short_training_beats_interpolation(tmp_path, digits):
    config = digits_ifanp.get_config()
    config.train.num_steps = 400
    config.evaluate.halves = False
    state = loop.run(config, tmp_path, digits)
    model, _, _ = runs.make_model(config, (8, 8, 1))
    evaluation, _ = evaluate.run(config, model, state, digits)
    for cell, least in zip(evaluation["cells"], (13.0, 15.5, 18.0), strict=True):
        assert cell["psnr_completed"] > least
        assert cell["psnr_completed"] > evaluate.best_classical(evaluation, cell)["psnr_completed"] + 1


def test_metric_rows_cut_off_by_a_crash_are_left_out(tmp_path):
    rows = [{"step": step, "train/loss": 1.0} for step in (1, 2, 3)]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "tr'
    (tmp_path / metrics_file.METRICS_FILE).write_text(text)
    writer = metrics_file.MetricWriter(tmp_path, step=2)
    writer.write(3, {"train/loss": 0.5})
    writer.close()
    assert metrics_file.read_metrics(tmp_path) == [*rows[:2], {"step": 3, "train/loss": 0.5}]


def test_averages_are_over_the_window():
    window = [{"loss": jnp.float32(1)}, {"loss": jnp.float32(4)}]
    assert loop._average(window) == {"loss": np.float32(2.5)}
