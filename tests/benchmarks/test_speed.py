"""The benchmark on shapes so small that its times mean nothing: here only that it measures what it says."""

import json
import math

import jax
import numpy as np
import pytest

from benchmarks import inputs, parts, probes, speed, step_speed, table
from ifanp_jax.training import runs
from tests import tiny

IMAGE_SHAPE = (6, 6, 1)
EFFORT = inputs.Effort(
    num_runs=2,
    num_turns=2,
    least_seconds=0.0,
    num_images=16,
    comparison_shape=(2, 4, 8),
    scaling_sides=(6,),
    scaling_batch_sizes=(4,),
    device_counts=(1, 2),
    picture_sizes=(),
)
GEMM = {"gemm": {"size": 2, "gflops_per_second": 1.0, "milliseconds": 1.0, "milliseconds_range": [1.0, 1.0]}}
IN_PROCESSES = ("devices", "start")


def make_case(**overrides):
    run = runs.make(tiny.make_config(**{"train.batch_size": 4} | overrides), IMAGE_SHAPE)
    return inputs.Case(run=run, gemm_rate=1.0, effort=EFFORT)


@pytest.fixture(scope="module")
def result():
    sections = tuple(name for name in speed.SECTIONS if name not in IN_PROCESSES)
    config = make_case().run.config
    return speed.run(config, IMAGE_SHAPE, sections=sections, effort=EFFORT, gemm_size=64)


def numbers_of(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, int | float)]


def names_of(rows):
    return [row["part"].split(",")[0] for row in rows]


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
    assert names_of(result["parts"]) == [
        "latent path", "encoder 2", "GCA", "decoder", "objective", "optimiser", "batch and contexts",
    ]  # fmt: skip
    without = parts.measure_parts(make_case(**{"model.name": "image_np.IFNP"}))
    assert names_of(without) == ["latent path", "decoder", "objective", "optimiser", "batch and contexts"]


def test_operations_of_the_parts_add_up_to_the_step(result):
    parts = sum(part.get("mflops_per_step", 0) for part in result["parts"])
    # The step does not need the gradient of its masked input.
    np.testing.assert_allclose(parts, 4 * result["training"]["mflops_per_image"], rtol=0.1)


def test_accelerators_are_as_many_as_there_are():
    (entry,) = step_speed.measure_accelerators(make_case())
    assert entry["num_devices"] == 1 and entry["batch_size"] == 4 and not entry["is_fake"]
    np.testing.assert_allclose(entry["images_per_second"], 4 / entry["milliseconds"] * 1e3)
    assert "1 devices, batch 4" in dict(row[:2] for row in table.list_rows(GEMM | {"devices": [entry]}))


@pytest.mark.slow
def test_fake_devices_agree():
    entries = probes.measure_devices(make_case())
    assert [entry["num_devices"] for entry in entries] == [1, 2]
    assert all(entry["is_fake"] and len(entry["losses"]) == 5 for entry in entries)
    assert entries[1]["largest_relative_difference"] < 1e-5


@pytest.mark.slow
def test_the_start_is_measured_cold_and_warm():
    entry = probes.measure_start(make_case())
    assert entry["cold_seconds"] > 0 and entry["warm_seconds"] > 0


def test_the_table_has_a_row_for_everything(result):
    devices = [
        {"num_devices": count, "is_fake": True, "largest_relative_difference": 1e-7} for count in (1, 2)
    ]
    others = {"devices": devices, "start": {"cold_seconds": 2.0, "warm_seconds": 1.0}}
    rows = table.list_rows(result | others)
    assert all(len(row) == 3 and all(isinstance(cell, str) for cell in row) for row in rows)
    names = "\n".join(name for name, _, _ in rows)
    for expected in (
        "GEMM",
        "training step",
        "part: GCA",
        "GCA, B=2",
        "LPA, B=2",
        "completion",
        "training 6x6",
        "2 fake devices",
        "first step",
    ):
        assert expected in names
    caption, _, head, *_ = table.list_lines(result)
    assert "float32, batch 4, 1 steps per dispatch" in caption and head.startswith("| what | value |")
