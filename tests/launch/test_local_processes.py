"""local_processes.sh, which trains for real in the end."""

import os
import signal
import subprocess
import sys

import chex
import pytest

from ifanp_jax.training import runs
from tests import tiny
from tests.helpers import ROOT, read_rows
from tests.launch.commands import BIN, LAUNCH, NEVER_SET, SAVES, wait_until

LOCAL = LAUNCH / "local_processes.sh"
FIND_PORT = 'if [[ "$1" == -c ]]; then echo 12345; exit; fi\nid="${*: -1}" id="${id#--process_id=}"\n'


def trainings(fakes):
    """Calls of the fake `python` that stand for a process of the run, in the order of their numbers."""
    return sorted((call for call in fakes.calls() if "-m" in call), key=lambda call: call[-1])


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((0, 0), 0),
        ((0, 0, 143), 143),
        ((130, 143), 143),
        ((143, 75), 75),
        ((75, 137), 137),
        ((139, 137), 139),
        ((137, 75, 1), 1),
        ((1, 0), 1),
        ((130, 130), 130),
    ],
)
def test_local_processes_end_with_the_status_that_says_most(fakes, statuses, expected):
    fakes.add("nvidia-smi", "exit 9")
    fakes.add("python", f"{FIND_PORT}statuses=({' '.join(map(str, statuses))})\nexit ${{statuses[id]}}")
    status, output = fakes.run(LOCAL, len(statuses), "--workdir=runs")
    assert status == expected, output
    assert len(trainings(fakes)) == len(statuses)


def test_local_processes_get_the_arguments_as_they_are_and_know_of_each_other(fakes):
    fakes.add("nvidia-smi", "exit 9")
    fakes.add("python", FIND_PORT)
    arguments = ["--config=a file.py", "--config.evaluate.fractions=(0.2, 0.4)", "--workdir=$HOME/*"]
    assert fakes.run(LOCAL, 3, *arguments)[0] == 0
    flags = ["--coordinator=127.0.0.1:12345", "--num_processes=3"]
    assert trainings(fakes) == [
        ["python", "-m", "ifanp_jax.main", *arguments, *flags, f"--process_id={index}"] for index in range(3)
    ]


@pytest.mark.parametrize(
    ("num_gpus", "environ", "expected"),
    [
        (0, {}, ["cpu -", "cpu -"]),
        (1, {}, ["cpu -", "cpu -"]),  # a GPU is for one process
        (3, {}, ["- 0", "- 1"]),
        (3, {"JAX_PLATFORMS": "cuda"}, ["cuda 0", "cuda 1"]),
        (3, {"JAX_PLATFORMS": "cpu"}, ["cpu -", "cpu -"]),
        (3, {"CUDA_VISIBLE_DEVICES": "5,7"}, ["- 5", "- 7"]),
        (3, {"CUDA_VISIBLE_DEVICES": ""}, ["cpu ", "cpu "]),
    ],
)
def test_local_processes_share_the_devices(fakes, num_gpus, environ, expected):
    fakes.add("nvidia-smi", f"seq 0 {num_gpus - 1}")
    fakes.add("python", FIND_PORT + 'echo "device $id ${JAX_PLATFORMS--} ${CUDA_VISIBLE_DEVICES--}"')
    status, output = fakes.run(LOCAL, 2, **environ)
    assert status == 0
    lines = sorted(line for line in output.splitlines() if line.startswith("device "))
    assert lines == [f"device {index} {devices}" for index, devices in enumerate(expected)]


@pytest.mark.parametrize("first", [(), ("0",), ("two",), ("--workdir=runs",)])
def test_local_processes_need_their_number(fakes, first):
    fakes.add("python")
    status, output = fakes.run(LOCAL, *first)
    assert status == 1
    assert "error: the first argument is the number of processes" in output
    assert fakes.calls() == []


def test_local_processes_refuse_to_share_a_gpu(fakes):
    fakes.add("nvidia-smi", "echo 0")
    fakes.add("python")
    status, output = fakes.run(LOCAL, 2, JAX_PLATFORMS="cuda")
    assert status == 1
    assert output == "error: 2 processes need as many GPUs, but there are 1.\n"


@pytest.mark.parametrize(
    ("number", "send", "name", "expected"),
    [
        (signal.SIGTERM, os.kill, "TERM", 143),
        (signal.SIGTERM, os.killpg, "TERM", 143),
        (signal.SIGINT, os.kill, "INT", 130),
        (signal.SIGINT, os.killpg, "INT", 130),  # Ctrl-C: the terminal signals the whole foreground
        (signal.SIGHUP, os.kill, "TERM", 143),
    ],
)
def test_local_processes_get_a_signal_once_and_are_waited_for(fakes, number, send, name, expected):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip(f"{signal.Signals(number).name} is ignored here, as under nohup: no shell can trap it")
    fakes.add("nvidia-smi", "exit 9")
    fakes.add("python", FIND_PORT + SAVES)
    process = fakes.start(LOCAL, 2)
    wait_until(lambda: fakes.names().count("ready") == 2)
    send(process.pid, number)
    status = process.wait(timeout=600)  # not `communicate`, which waits for the others by itself
    words = sorted(call for call in fakes.calls() if call[0] not in ("python", "nvidia-smi", "ready"))
    assert words == [[name, "0"], [name, "1"], ["saved", "0"], ["saved", "1"]]
    assert (status, process.communicate()[0]) == (expected, "")


@pytest.mark.slow
def test_local_processes_train_as_one_process_with_two_devices_bit_for_bit(tmp_path):
    # The test of the evaluation is elsewhere.
    little = {
        "evaluate.num_samples": 1,
        "evaluate.fractions": (0.4,),
        "evaluate.halves": False,
        "evaluate.classical_images": 0,
        "evaluate.figure_images": 0,
        "train.validate_every": 0,
    }
    arguments = ["--config=digits_ifanp", *tiny.flags(**little)]
    environ = {name: value for name, value in os.environ.items() if name not in NEVER_SET}
    environ |= {"PATH": f"{BIN}:{environ['PATH']}", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    commands = {
        "one": ([sys.executable, "-m", "ifanp_jax.main"], "--xla_force_host_platform_device_count=2"),
        "two": ([LOCAL, "2"], ""),
    }
    processes = {
        name: subprocess.Popen(
            [*command, *arguments, f"--workdir={tmp_path / name}"],
            cwd=ROOT,
            env=environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, (command, flags) in commands.items()
    }
    for process in processes.values():
        try:
            output = process.communicate(timeout=600)[0]
        finally:
            process.terminate()  # of no effect where it has ended
        assert process.returncode == 0, output

    one, two = (runs.load(tmp_path / name).state for name in commands)
    assert int(two.step) == 6
    chex.assert_trees_all_equal(two, one)
    rows_of_one, rows_of_two = (read_rows(tmp_path / name) for name in commands)
    assert [row["step"] for row in rows_of_two] == [2, 4, 6]
    assert rows_of_two == rows_of_one
    assert (tmp_path / "two" / "evaluation.md").is_file()
