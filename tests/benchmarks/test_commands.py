"""The command line of the benchmarks."""

import json

import pytest

from benchmarks import reliability
from tests import helpers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["peers", "--config=configs/digits_ifanp.py"], "takes no --config"),
        (["protocols", "--config=configs/digits_ifanp.py"], "name it by --model or by --workdir"),
        (["--config=configs/digits_ifanp.py", "--section=speed"], "speed"),
        (
            ["reliability", "--config=configs/digits_ifanp.py", "--output=/nowhere/a.json"],
            "lies in no folder",
        ),
    ],
)
def test_wrong_flags_are_one_sentence(arguments, message):
    process = helpers.run_main(*arguments, module="benchmarks")
    assert process.returncode == 1
    assert process.stderr.startswith("error: ") and message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


def test_results_are_collected_in_one_table(tmp_path):
    times = {"milliseconds": 2.0, "milliseconds_range": [1.0, 3.0]}
    result = {
        "model": "image_np.IFANP", "image_shape": [32, 32, 3], "batch_size": 512, "dtype": "bfloat16",
        "num_devices": 1, "device": "a device", "jax": "0.10", "python": "3.11",
        "gemm": {"gflops_per_second": 5e5},
        "training": {
            "images_per_second": 256e3, "mflops_per_image": 900.0, "gemm_share": 0.46, "temporary_mib": 10.0,
            "loop_overhead": 0.01, "compile_seconds": 7.0, **times,
        },
    }  # fmt: skip
    (tmp_path / "benchmark_celeba_bfloat16.json").write_text(json.dumps(result))
    process = helpers.run_main("collect", f"--results={tmp_path}", module="benchmarks")
    assert process.returncode == 0, process.stderr
    caption, _, _, _, row = process.stdout.strip().splitlines()
    assert caption == "1 x a device, jax 0.10, Python 3.11."
    assert row.startswith(
        "| image_np.IFANP, 32x32x3, batch 512 | bfloat16 | 256,000 | 2.00 ms (1.00 to 3.00) |"
    )
    assert "| 230.4 | 46% of 500.0 |" in row


def test_the_processes_get_the_configuration_alone():
    given = [
        "--config=a.py",
        "--config.seed=3",
        "-config",
        "b.py",
        "--output=x",
        "--config.train.num_steps",
        "5",
    ]
    assert reliability.list_config_flags(given) == [
        "--config=a.py", "--config.seed=3", "-config", "b.py", "--config.train.num_steps", "5",
    ]  # fmt: skip


def test_the_table_of_reliability():
    result = {
        "save": {
            "bytes": 2**20,
            "blocking_milliseconds": 4.0,
            "blocking_milliseconds_range": [3.0, 5.0],
            "on_disk_milliseconds": 9.0,
        },
        "start": {"cold_seconds": 2.0, "warm_seconds": 1.0},
        "interruption": {"sigterm_to_exit_seconds": 0.25, "kill_to_new_step_seconds": 1.5},
        "growth": {"growth": -0.037, "num_steps": 5000, "after_warm_up_bytes": 666 * 2**20},
    }
    lines = reliability.list_lines(result)
    assert "| a save of 1.0 MiB keeps the training waiting | 4 ms (3 to 5) |" in lines
    assert "| SIGTERM to the exit, the step saved | 0.25 s |" in lines
    assert "| growth of memory from step 1,000 to 5,000 | -3.7% of 666 MiB |" in lines
