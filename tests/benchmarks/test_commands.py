"""The command line of the benchmarks."""

import json
import types

import pytest

from benchmarks import __main__, reliability
from ifanp_jax import command_line
from ifanp_jax.errors import UserError
from ifanp_jax.training import runs
from tests import helpers, tiny
from tests.training import short_run


def fail(command, **given):
    """The one sentence of a command that cannot be done."""
    values = {"model": "", "workdir": "", "output": ""} | given
    with pytest.raises(UserError) as raised:
        __main__.main(command, {name: types.SimpleNamespace(value=value) for name, value in values.items()})
    return str(raised.value)


def test_wrong_flags_are_one_sentence(monkeypatch):
    config = None
    monkeypatch.setattr(command_line, "get_config", lambda: config)
    assert "The first word must be a command: peers" in fail("")
    assert "--config is missing" in fail("quality")
    assert "holds no benchmark_*.json" in fail("collect", results="/nowhere")
    config = tiny.make_config()
    assert "takes no --config" in fail("peers")
    assert "name it by --model or by --workdir" in fail("protocols")
    assert "lies in no folder" in fail("roofline", output="/nowhere/a.json")


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
    kept = "--config=a.py --config.seed=3 -config b.py --config.train.num_steps 5".split()
    given = [*kept[:4], "--output=x", *kept[4:]]
    assert reliability.list_config_flags(given) == kept


def test_a_save_is_measured_and_told_with_starts_and_exits(tmp_path):
    found = reliability.measure_saves(runs.make(short_run.make_config(), (8, 8, 1)), tmp_path / "saves")
    assert 0 < found["save_blocking_milliseconds"] <= found["save_milliseconds"]
    assert found["save_bytes"] > 10_000
    result = {"save_bytes": 2**20, "save_blocking_milliseconds": 4.0, "save_milliseconds": 9.0}
    lines = reliability.list_lines(result | {"cold_seconds": 2.0, "warm_seconds": 1.0, "exit_seconds": 0.25})
    assert "| a save of 1.0 MiB keeps the training waiting | 4 ms |" in lines
    assert "| SIGTERM to the exit, the step saved | 0.25 s |" in lines
