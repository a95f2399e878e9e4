"""The command line of the benchmarks."""

import pytest

from ifanp_jax.benchmark import reliability
from tests import helpers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["--config=configs/digits_ifanp.py", "--section=speed"], "speed"),
        (
            ["reliability", "--config=configs/digits_ifanp.py", "--output=/nowhere/a.json"],
            "lies in no folder",
        ),
    ],
)
def test_wrong_flags_are_one_sentence(arguments, message):
    process = helpers.run_main(*arguments, module="ifanp_jax.benchmark")
    assert process.returncode == 1
    assert process.stderr.startswith("error: ") and message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


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
