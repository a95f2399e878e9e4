"""Runs that are killed, interrupted or left alone, as processes of their own with real signals.

The promises of docs/reliability.md and where each is tested: killed at any time, interrupted, same seed,
other numbers of processes and devices, a dead or stopped process, 5,000 steps: here and in
`runtime/test_device_mesh.py`. In `training/`: damaged checkpoints (`test_checkpoint.py`), another
configuration (`test_same_run.py`), NaN and batches that do not fit (`test_guards.py`), a full disk
(`test_disk.py`). Untrusted input: `data/test_untrusted.py`.
"""

import json
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time

import chex
import pytest

from ifanp_jax.training import runs
from tests import helpers
from tests.processes import ENVIRONMENT, PATIENCE, Process, list_steps, make_starter

NUM_STEPS = 700
FIELDS = (
    "model.width=8",
    "model.latent_dim=4",
    "model.encoder_depth=1",
    "model.decoder_depth=1",
    f"train.num_steps={NUM_STEPS}",
    "train.batch_size=8",
    "train.log_every=7",  # checkpoints fall between the rows
    "train.validate_every=100",
    "train.checkpoint_every=50",
    "evaluate.num_images=8",
    "evaluate.classical_images=0",
    "evaluate.figure_images=2",
)
ARGUMENTS = ("--config=configs/digits_ifanp.py", *(f"--config.{field}" for field in FIELDS))


@pytest.fixture
def start():
    yield from make_starter(*ARGUMENTS)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    process = Process(tmp_path_factory.mktemp("reliability") / "run", *ARGUMENTS)
    assert process.end() == 0, process.text
    return process.workdir


def assert_same_run(workdir, expected):
    """Parameters, optimiser's state and moving average, bit for bit; rows but for speed; tables."""
    chex.assert_trees_all_equal(runs.load(workdir).state, runs.load(expected).state)
    rows, expected_rows = helpers.read_rows(workdir), helpers.read_rows(expected)
    assert rows == expected_rows
    assert rows[-1]["step"] == NUM_STEPS and len(rows) == -(-NUM_STEPS // 7) + NUM_STEPS // 100
    tables = [json.loads((path / "evaluation.json").read_text()) for path in (workdir, expected)]
    assert tables[0] == tables[1]


@pytest.mark.slow  # a run that was killed ends like another one too, below
def test_the_same_seed_gives_the_same_run(start, tmp_path, uninterrupted):
    process = start(tmp_path / "run")
    assert process.end() == 0, process.text
    assert "Fresh start" in process.text
    assert_same_run(process.workdir, uninterrupted)


def test_a_run_that_is_killed_and_interrupted_ends_as_if_it_had_not_been(start, tmp_path, uninterrupted):
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where the test fails
    choose = random.Random(seed)
    workdir = tmp_path / "run"
    # Killed at any step; interrupted; killed while a checkpoint is written (tried until it was caught).
    first = start(workdir, name="first").wait_for_row(choose.randrange(1, 200))
    first.send(signal.SIGKILL).end()
    second = start(workdir, name="second").wait_for_row(choose.randrange(250, 400)).send(signal.SIGTERM)
    assert second.end() == 128 + signal.SIGTERM, second.text
    step = int(re.search(r"Saved step (\d+);", second.text)[1])
    assert step == list_steps(workdir)[-1] and "Traceback" not in second.text
    for attempt in range(5):
        process = start(workdir, name=f"saving_{attempt}").wait_for_text("Compiled")
        assert attempt or f"at step {step}" in process.text
        process.wait_until(lambda: any(workdir.glob("checkpoints/unfinished_*/*")))
        process.send(signal.SIGKILL).end()
        if any(workdir.glob("checkpoints/unfinished_*")):
            break
    else:
        pytest.fail("No kill fell into a save.")
    last = start(workdir, name="last")
    assert last.end() == 0, last.text
    assert "damaged" not in last.text and not list(workdir.glob("checkpoints/unfinished_*"))
    assert_same_run(workdir, uninterrupted)


@pytest.mark.slow
def test_a_run_killed_before_its_first_step_begins_afresh(start, tmp_path, uninterrupted):
    workdir = tmp_path / "run"
    start(workdir, name="early").wait_for_text("parameters").send(signal.SIGKILL).end()
    last = start(workdir, name="last")
    assert last.end() == 0, last.text
    assert_same_run(workdir, uninterrupted)


@pytest.mark.slow
def test_a_run_interrupted_at_every_stage_ends_as_if_it_had_not_been(start, tmp_path, uninterrupted):
    workdir = tmp_path / "run"
    resumed_at = None
    for number, row in ((signal.SIGTERM, 60), (signal.SIGINT, 400)):
        process = start(workdir, name=f"train_{number}").wait_for_row(row).send(number)
        assert process.end() == 128 + number, process.text
        step = int(re.search(r"Saved step (\d+);", process.text)[1])
        assert row <= step < NUM_STEPS and step == list_steps(workdir)[-1]
        assert (
            "Fresh start" in process.text if resumed_at is None else f"at step {resumed_at}" in process.text
        )
        assert "Traceback" not in process.text
        resumed_at = step
    for text, number in (("Evaluating", signal.SIGTERM), ("Drawing", signal.SIGINT)):
        process = start(workdir, name=text).wait_for_text(text).send(number)
        assert process.end() == 128 + number, process.text
        assert "Traceback" not in process.text
        assert list_steps(workdir)[-1] == NUM_STEPS
        assert not (workdir / "training.png").exists()  # drawn last but one
    assert start(workdir).end() == 0
    assert_same_run(workdir, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_second_signal_ends_the_process_at_once(start, tmp_path, number):
    # A step of a second or more is under way, so that neither signal finds the main thread free.
    long_step = ("--config.train.batch_size=16384", "--config.train.num_steps=200000")
    process = start(tmp_path / "run", *long_step).wait_for_text("Compiled")
    process.send(number).wait_for_text("once more ends it now")
    assert process.send(number).end() == 128 + number
    assert "ended at once" in process.text
    assert "Saved" not in process.text and list_steps(process.workdir) == []


def start_two(start, workdir, *arguments, **options):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return [
        start(
            workdir,
            *(f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={index}"),
            *arguments,
            name=f"process_{index}",
            environment={},  # compiled in less time
            **options,
        )
        for index in range(2)
    ]


@pytest.mark.parametrize(
    ("index", "number"), [pytest.param(0, signal.SIGINT, marks=pytest.mark.slow), (1, signal.SIGTERM)]
)
def test_two_processes_agree_where_to_stop_when_one_gets_a_signal(start, tmp_path, index, number):
    processes = start_two(start, tmp_path / "run", "--config.train.num_steps=1000000")
    processes[0].wait_for_row(20)
    processes[index].send(number)
    assert [process.end() for process in processes] == [128 + number] * 2, processes[1].text
    step = int(re.search(r"Saved step (\d+);", processes[0].text)[1])
    assert list_steps(tmp_path / "run")[-1] == step == int(runs.load(tmp_path / "run").state.step)


@pytest.mark.slow
def test_two_processes_that_evaluate_end_at_once(start, tmp_path):
    processes = start_two(start, tmp_path / "run", "--config.train.num_steps=100")
    processes[0].wait_for_text("Evaluating")
    for process in processes:
        process.send(signal.SIGTERM)
    assert [process.end() for process in processes] == [143, 143], processes[1].text
    assert list_steps(tmp_path / "run")[-1] == 100 and not (tmp_path / "run/evaluation.json").exists()
    assert not any("Traceback" in process.text for process in processes)


@pytest.mark.slow
def test_a_process_whose_steps_end_no_more_is_named(start, tmp_path):
    options = ("--heartbeat_seconds=5", "--stall_seconds=5", "--config.train.num_steps=1000000")
    processes = start_two(start, tmp_path / "run", *options, module="tests.training.stalled_worker")
    assert processes[0].end() == 75, processes[0].text
    assert processes[1].end() in (75, -signal.SIGABRT), processes[1].text  # by JAX where the other was first
    texts = [process.text for process in processes]
    assert any("no step ended any more: this process is at step 3" in text for text in texts), texts
    assert not any("Traceback" in text for text in texts)


@pytest.mark.parametrize(
    ("victim", "number"),
    [
        (1, signal.SIGSTOP),
        pytest.param(0, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(0, signal.SIGSTOP, marks=pytest.mark.slow),
    ],
)
def test_no_process_waits_for_one_that_is_gone(start, tmp_path, victim, number):
    processes = start_two(
        start, tmp_path / "run", "--heartbeat_seconds=5", "--config.train.num_steps=1000000"
    )
    processes[0].wait_for_row(20)
    processes[victim].send(number)
    survivor = processes[1 - victim]
    status = survivor.end()
    if (victim, number) == (0, signal.SIGKILL) and status == -signal.SIGABRT:
        assert "leader task" in survivor.text  # JAX itself ends it where the coordinator's connection breaks
        return
    assert status == 75, survivor.text
    assert f"process {victim}" in survivor.text and "Traceback" not in survivor.text


def test_processes_that_do_not_come_together_are_started_again():
    lines = (
        "import time",
        "from ifanp_jax.runtime import heartbeat",
        "with heartbeat.deadline(0.1, 'late'): time.sleep(100)",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (75, "error: late\n")


@pytest.mark.slow
def test_five_thousand_steps_neither_grow_nor_compile(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "tests.training.growth_worker", str(tmp_path / "run")],
        cwd=helpers.ROOT,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["last_step"] == 5000
    first, last = record["bytes"][:3], record["bytes"][-3:]
    assert statistics.median(last) < 1.02 * statistics.median(first), record
    assert record["compilations"][-1] == record["compilations"][0] > 0, record


def list_children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="there is no /proc")
def test_a_terminated_benchmark_leaves_no_training_behind(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "reliability", "--config=configs/digits_ifanp.py"]
    environ = os.environ | ENVIRONMENT | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=helpers.ROOT, env=environ, stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + PATIENCE
        while not (children := list_children(process.pid)):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, text = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143 and "Traceback" not in text, text
    assert not any(pathlib.Path(f"/proc/{child}").exists() for child in children)
    assert not list(tmp_path.iterdir())
