"""The installed benchmark on shapes so small that its times mean nothing: it measures what it says."""

import json
import math

import jax
import jax.numpy as jnp
import pytest

from configs import celeba_ifanp, default, digits_ifanp, mnist_ifanp
from ifanp_jax import benchmark, command_line
from ifanp_jax.errors import UserError
from tests import tiny
from tests.training import short_run

EFFORT = benchmark.Effort(num_turns=2, num_images=16, num_pictures=1, gemm_size=64)


@pytest.fixture(scope="module")
def result():
    config = benchmark.prepare(
        short_run.make_config(**{"train.init_from": "mnist28"})
    )  # it is not waited for
    return benchmark.run(config, (8, 8, 1), picture_size=8, effort=EFFORT)


def test_the_result_is_json_with_finite_numbers_and_rates_follow_from_times(result):
    read = json.loads(json.dumps(result))
    assert read["device"] and read["dtype"] == "float32" and read["batch_size"] == 8
    assert read["image_shape"] == [8, 8, 1] and read["training"]["steps_per_dispatch"] == 1
    numbers = [leaf for leaf in jax.tree.leaves(read) if isinstance(leaf, int | float)]
    assert len(numbers) > 15 and all(math.isfinite(number) for number in numbers)
    assert 0 < read["picture"]["seconds"] and 0 < read["picture"]["peak_mib"] <= read["training"]["peak_mib"]
    training, gemm = result["training"], result["gemm"]["gflops_per_second"]
    assert training["images_per_second"] == pytest.approx(8 / training["milliseconds"] * 1e3)
    rate = training["mflops_per_image"] * training["images_per_second"] / 1e3
    assert training["gflops_per_second"] == pytest.approx(rate)
    assert training["gemm_share"] == pytest.approx(rate / gemm)
    low, high = training["milliseconds_range"]
    assert low <= training["milliseconds"] <= high


def test_the_table_has_a_line_for_everything(result):
    rows = dict(benchmark.list_rows(result))
    assert rows["model"] == "image_np.IFNP, 8x8x1, batch 8"
    assert {"training, images/s", "step, ms", "loop against step", "picture 8x8, s"} <= set(rows)
    assert len(benchmark.list_lines(result)) == len(rows)
    without = {name: value for name, value in result.items() if name not in benchmark.SECTIONS}
    assert len(benchmark.list_rows(without)) == 4


def test_a_training_is_the_same_whether_it_is_measured_or_not():
    train_steps = jax.jit(
        lambda state, images, n: (state + n * images, n), static_argnums=2, donate_argnums=0
    )
    meter, state = benchmark.StepMeter(train_steps), jnp.zeros(())
    num_turns = 3
    for _ in range(benchmark.DISPATCHES_PER_TURN * (1 + num_turns) + 1):
        state, _ = meter(state, jnp.float32(2), 5)
    assert state == 10 * (benchmark.DISPATCHES_PER_TURN * (1 + num_turns) + 1)
    assert len(meter.in_loop) == len(meter.alone) == num_turns
    assert meter.compile_seconds > 0 and min(meter.in_loop + meter.alone) > 0


def test_the_image_shape_is_given_configured_or_known():
    assert benchmark.get_image_shape(celeba_ifanp.get_config()) == (32, 32, 3)
    assert benchmark.get_image_shape(digits_ifanp.get_config()) == (8, 8, 1)
    unknown = default.get_config()
    unknown.data.name = "my_pictures"
    assert benchmark.get_image_shape(celeba_ifanp.get_config(), image_size=16, channels=1) == (16, 16, 1)
    with pytest.raises(UserError, match="--image_size"):
        benchmark.get_image_shape(unknown)


def test_the_model_measured_is_the_one_of_the_protocol():
    config = mnist_ifanp.get_config()
    config.protocol = "npf"
    prepared = benchmark.prepare(config)
    assert benchmark.get_image_shape(prepared) == (32, 32, 1)
    assert prepared.model.likelihood == "per_pixel"
    assert config.model.likelihood == "fixed" and config.data.image_size != 32  # what was given is kept


def test_values_that_cannot_work_are_refused(monkeypatch):
    with pytest.raises(UserError, match="batch_size"):
        benchmark.prepare(tiny.make_config(**{"train.batch_size": 0}))
    with pytest.raises(UserError, match="lies in no folder"):
        benchmark.check_output("/nowhere/a.json")
    monkeypatch.setattr(command_line, "get_config", lambda: None)
    with pytest.raises(UserError, match="--config is missing"):
        benchmark.main({})
