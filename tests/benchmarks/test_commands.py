"""The command line of the benchmarks."""

import json

import pytest

from benchmarks import reliability
from ifanp_jax.training import runs
from tests import helpers, tiny


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "The first word must be a command"),
        (["quality"], "--config is missing"),
        (["peers", "--config=digits_ifanp"], "takes no --config"),
        (["protocols", "--config=digits_ifanp"], "name it by --model or by --workdir"),
        (["collect", "--results=/nowhere"], "holds no benchmark_*.json"),
    ],
)
def test_wrong_flags_are_one_sentence(arguments, message):
    process = helpers.run_main(*arguments, module="benchmarks")
    assert process.returncode == 1
    assert process.stderr.startswith("error: ") and message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


def test_results_are_collected_in_one_table(tmp_path):
    result = {
        "model": "image_np.IFANP", "image_shape": [32, 32, 3], "batch_size": 512, "dtype": "bfloat16",
        "num_devices": 1, "device": "a device", "jax": "0.10", "python": "3.11",
        "gemm": {"gflops_per_second": 5e5},
        "training": {
            "milliseconds": 2.0, "milliseconds_range": [1.0, 3.0], "images_per_second": 256e3,
            "gflops_per_second": 2.3e5, "gemm_share": 0.46, "loop_overhead": 0.01, "compile_seconds": 7.0,
            "temporary_mib": 10.0, "peak_mib": 100.0,
        },
    }  # fmt: skip
    (tmp_path / "benchmark_1.json").write_text(json.dumps(result))
    result["picture"] = {"size": 256, "seconds": 0.5, "first_seconds": 1.0, "peak_mib": 50.0}
    (tmp_path / "benchmark_2.json").write_text(json.dumps(result))
    process = helpers.run_main("collect", f"--results={tmp_path}", module="benchmarks")
    assert process.returncode == 0, process.stderr
    head, _, first, second = process.stdout.strip().splitlines()
    assert head.startswith("| model | dtype | ") and "picture 256x256, s" in head
    assert first.startswith("| image_np.IFANP, 32x32x3, batch 512 | bfloat16 | 500,000 GFLOP/s | 256,000.0 |")
    assert "| 2.00 (1.00 to 3.00) | 230,000 (46% of the product's) | +1.0% |" in first
    assert "0.500 (first 1.00)" in second and "0.500" not in first


def test_the_processes_get_the_configuration_alone():
    given = [
        "--config=a.py", "--config.seed=3", "-config", "b.py", "--output=x", "--config.train.num_steps", "5",
    ]  # fmt: skip
    assert reliability.list_config_flags(given) == [
        "--config=a.py", "--config.seed=3", "-config", "b.py", "--config.train.num_steps", "5",
    ]  # fmt: skip


def test_the_table_of_reliability():
    result = {
        "save_bytes": 2**20, "save_blocking_milliseconds": 4.0, "save_milliseconds": 9.0,
        "cold_seconds": 2.0, "warm_seconds": 1.0, "exit_seconds": 0.25,
    }  # fmt: skip
    lines = reliability.list_lines(result)
    assert "| a save of 1.0 MiB keeps the training waiting | 4 ms |" in lines
    assert "| SIGTERM to the exit, the step saved | 0.25 s |" in lines


def test_a_save_is_measured(tmp_path):
    found = reliability.measure_saves(runs.make(tiny.make_config(), (8, 8, 1)), tmp_path / "saves")
    assert 0 < found["save_blocking_milliseconds"] <= found["save_milliseconds"]
    assert found["save_bytes"] > 10_000
