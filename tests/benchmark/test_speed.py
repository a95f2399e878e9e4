"""The benchmark on shapes so small that its times mean nothing: here only that it measures what it says."""

import json
import math
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import celeba_ifanp, default, digits_ifanp
from ifanp_jax.benchmark import speed as benchmark
from ifanp_jax.benchmark import table as benchmark_table
from ifanp_jax.errors import UserError
from ifanp_jax.modules import gca, lpa

IMAGE_SHAPE = (6, 6, 1)


def tiny_config(**overrides):
    config = digits_ifanp.get_config()
    sizes = {"width": 8, "latent_dim": 4, "encoder_depth": 1, "decoder_depth": 1}
    config.model.update(sizes)
    config.train.batch_size = 4
    config.evaluate.num_samples = 2
    config.update_from_flattened_dict(overrides)
    return config


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "NUM_RUNS", 2)
        patch.setattr(benchmark, "NUM_TURNS", 2)
        patch.setattr(benchmark, "LEAST_SECONDS", 0.0)
        patch.setattr(benchmark, "NUM_IMAGES", 16)
        patch.setattr(benchmark, "COMPARISON_SHAPE", (2, 4, 8))
        patch.setattr(benchmark, "SCALING_SIDES", (4,))
        patch.setattr(benchmark, "SCALING_BATCH_SIZES", (2,))
        sections = tuple(name for name in benchmark.SECTIONS if name not in ("devices", "start"))
        return benchmark.run(tiny_config(), IMAGE_SHAPE, sections=sections)


def numbers_of(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, int | float)]


def test_the_result_is_json_with_the_promised_keys(result):
    read = json.loads(json.dumps(result))
    assert read["device"] and read["dtype"] == "float32"
    assert read["batch_size"] == 4 and read["steps_per_dispatch"] == 1
    for key in ("images_per_second", "gemm_share", "loop_overhead"):
        assert isinstance(read["training"][key], float)
    assert read["gca"]["time_ratio"] > 0 and read["gca"]["memory_ratio"] > 0 and read["lpa"]["time_ratio"] > 0
    assert all(math.isfinite(number) for number in numbers_of(read))


def test_rates_follow_from_times(result):
    training = result["training"]
    np.testing.assert_allclose(training["images_per_second"], 4 / training["milliseconds"] * 1e3)
    flops_per_second = training["mflops_per_image"] * 1e6 * training["images_per_second"]
    np.testing.assert_allclose(
        training["gemm_share"], flops_per_second / result["gemm"]["gflops_per_second"] / 1e9
    )
    low, high = training["milliseconds_range"]
    assert low <= training["milliseconds"] <= high


def test_the_parts_are_those_of_the_model(result):
    names = [part["part"].split(",")[0] for part in result["parts"]]
    assert names == [
        "encoder 1", "LPA", "encoder 2", "GCA", "decoder", "objective", "optimiser", "batch and contexts",
    ]  # fmt: skip
    without = benchmark.measure_parts(tiny_config(**{"model.name": "image_np.IFNP"}), IMAGE_SHAPE, 1.0)
    assert [part["part"].split(",")[0] for part in without] == [
        "encoder 1", "decoder", "objective", "optimiser", "batch and contexts",
    ]  # fmt: skip


def test_operations_of_the_parts_add_up_to_the_step(result):
    parts = sum(part.get("mflops_per_step", 0) for part in result["parts"])
    # The step does not need the gradient of its masked input.
    np.testing.assert_allclose(parts, 4 * result["training"]["mflops_per_image"], rtol=0.1)


@pytest.mark.slow
def test_fake_devices_agree(monkeypatch):
    monkeypatch.setattr(benchmark, "DEVICE_COUNTS", (1, 2))
    entries = benchmark.measure_devices(tiny_config(), IMAGE_SHAPE, 1.0)
    assert [entry["num_devices"] for entry in entries] == [1, 2]
    assert all(entry["is_fake"] and len(entry["losses"]) == 5 for entry in entries)
    assert entries[1]["largest_relative_difference"] < 1e-5


def test_the_table_has_a_row_for_everything(result):
    devices = [
        {"num_devices": count, "is_fake": True, "largest_relative_difference": 1e-7} for count in (1, 2)
    ]
    others = {"devices": devices, "start": {"cold_seconds": 2.0, "warm_seconds": 1.0}}
    rows = benchmark_table.list_rows(result | others)
    assert all(len(row) == 3 and all(isinstance(cell, str) for cell in row) for row in rows)
    names = "\n".join(name for name, _, _ in rows)
    for expected in (
        "GEMM",
        "training step",
        "part: GCA",
        "GCA, B=2",
        "LPA, B=2",
        "completion",
        "training 4x4",
    ):
        assert expected in names
    assert "2 fake devices" in names and "first step" in names
    assert "float32, batch 4, 1 steps per dispatch" in benchmark_table.caption(result)


def test_the_alternatives_compute_the_same():
    keys = jax.random.split(jax.random.key(0), 3)
    theta = gca.to_ball(jax.random.normal(keys[0], (20, 5)))
    values = jax.random.normal(keys[1], (3, 20, 5))
    observed = jax.random.bernoulli(keys[2], 0.4, (3, 20)).at[:, 0].set(True)
    ours = gca.attend(theta, values, observed)
    chex.assert_trees_all_close(benchmark.per_image_softmax(theta, values, observed), ours, atol=1e-5)
    chex.assert_trees_all_close(benchmark.library_attention(theta, values, observed), ours, atol=1e-5)
    x = jax.random.normal(keys[0], (2, 5, 6, 4))
    weights = lpa.window_weights(jnp.arange(1.0, 5.0))
    chex.assert_trees_all_close(benchmark.depthwise_convolution(x, weights), lpa.pool(x, weights), atol=1e-6)


@pytest.mark.slow
def test_the_start_is_measured_cold_and_warm(tmp_path):
    entry = benchmark.measure_start(tiny_config(), IMAGE_SHAPE, 1.0)
    assert entry["cold_seconds"] > 0 and entry["warm_seconds"] > 0


def test_the_image_shape_is_given_configured_or_known():
    def shape(config, image_size=0, channels=0):
        return benchmark.get_image_shape(config, image_size=image_size, channels=channels)

    assert shape(celeba_ifanp.get_config()) == (32, 32, 3)
    assert shape(digits_ifanp.get_config()) == (8, 8, 1)
    assert shape(digits_ifanp.get_config(), 16, 3) == (16, 16, 3)
    unknown = default.get_config()
    unknown.data.name = "my_pictures"
    with pytest.raises(UserError, match="--image_size"):
        shape(unknown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["--config=configs/digits_ifanp.py", "--output=/nowhere/at/all.json"], "lies in no folder"),
        (["--config=configs/digits_ifanp.py", "--section=speed"], "speed"),
    ],
)
def test_wrong_flags_are_one_sentence(arguments, message):
    process = subprocess.run(
        [sys.executable, "-m", "ifanp_jax.benchmark", *arguments], capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: ") and message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
