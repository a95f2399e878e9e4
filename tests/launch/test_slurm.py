"""slurm.sbatch against fakes of Slurm's commands."""

import os
import signal

import pytest

from tests.launch.commands import LAUNCH, SAVES, wait_until

SLURM = LAUNCH / "slurm.sbatch"
# Runs the task once per number in STATUSES, side by side; like the real one it ends with the highest status.
SRUN = """
while [[ "$1" == --* ]]; do shift; done
highest=0 pids=()
for SLURM_PROCID in ${!STATUSES[@]}; do
  SLURM_PROCID=$SLURM_PROCID "$@" & pids+=($!)
done
for pid in "${pids[@]}"; do
  status=0; wait "$pid" || status=$?
  (( status <= highest )) || highest=$status
done
exit "$highest"
"""


@pytest.mark.parametrize(
    ("statuses", "restarts", "expected", "is_requeued"),
    [
        ((0, 0), 0, 0, False),
        ((1, 1), 0, 1, False),
        ((1, 75), 0, 1, False),  # 75 only follows from the 1
        ((137, 1), 0, 1, False),
        ((143, 143), 0, 143, True),
        ((75, 137), 0, 137, True),
        ((75, 0), 99, 75, True),
        ((75, 0), 100, 75, False),
        ((130, 130), 0, 130, False),  # scancel --signal=INT
        ((2, 0), 0, 2, True),
    ],
)
def test_slurm_requeues_what_a_new_start_can_mend(fakes, statuses, restarts, expected, is_requeued):
    numbers = " ".join(map(str, statuses))
    fakes.add("srun", f"STATUSES=({numbers})\n{SRUN}")
    fakes.add("python", f"statuses=({numbers})\nexit ${{statuses[SLURM_PROCID]}}")
    fakes.add("scontrol")
    environ = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8"}
    if restarts:  # Slurm sets it from the first restart on
        environ["SLURM_RESTART_COUNT"] = str(restarts)
    status, output = fakes.run("bash", SLURM, "--config=a file.py", "--workdir=$HOME/*", **environ)
    assert status == expected, output
    calls = fakes.calls()
    python = ["python", "-m", "ifanp_jax.main", "--config=a file.py", "--workdir=$HOME/*"]
    assert calls.count(python) == len(statuses)
    assert calls[0][:4] == ["srun", "--cpus-per-task=8", "--kill-on-bad-exit=0", "--wait=0"]
    assert [call for call in calls if call[0] == "scontrol"] == [["scontrol", "requeue", "7"]] * is_requeued


def test_slurm_does_not_requeue_what_srun_refuses(fakes):
    fakes.add("srun", "exit 1")
    fakes.add("scontrol")
    status, output = fakes.run("bash", SLURM, SLURM_JOB_ID="7")
    assert (status, output) == (1, "error: srun could not start the tasks; not requeued.\n")
    assert fakes.names() == ["srun"]


def test_slurm_tasks_save_when_slurm_signals_all_their_processes(fakes):
    fakes.add("python", "id=0" + SAVES)
    # slurmstepd signals every process of the task, and kills what is left when its first process has ended.
    fakes.add(
        "srun",
        'while [[ "$1" == --* ]]; do shift; done\nset -m\n"$@" & task=$!\n'
        'until grep --quiet ready "$LOG"; do sleep 0.02; done\nkill -TERM -- "-$task"\n'
        'status=0; wait "$task" || status=$?\nkill -KILL -- "-$task" 2> /dev/null\nexit "$status"',
    )
    fakes.add("scontrol")
    status, output = fakes.run("bash", SLURM, SLURM_JOB_ID="7")
    assert status == 143, output
    assert fakes.names() == ["srun", "python", "ready", "TERM", "saved", "scontrol"]


def test_slurm_leaves_a_cancelled_job_alone(fakes):
    fakes.add("srun", "echo ready >> $LOG; sleep 20")
    fakes.add("scontrol")
    process = fakes.start("bash", SLURM, SLURM_JOB_ID="7")
    wait_until(lambda: "ready" in fakes.names())
    process.terminate()  # what a plain scancel does to the batch shell
    assert process.wait(timeout=10) == -signal.SIGTERM
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "scontrol" not in fakes.names()


def test_slurm_script_outside_of_a_job_tells_how_it_is_used(fakes):
    fakes.add("srun")
    status, output = fakes.run(SLURM)
    assert status == 1
    assert "sbatch --partition=" in output and output.endswith("there is no job here.\n")
    assert fakes.calls() == []


def test_slurm_options():
    lines = SLURM.read_text().splitlines()
    commands = [index for index, line in enumerate(lines) if line and not line.startswith("#")]
    options = [(index, line.split()[1]) for index, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert max(index for index, _ in options) < min(commands)  # sbatch reads no further
    values = dict(option.removeprefix("--").partition("=")[::2] for _, option in options)
    assert values["signal"] == "TERM@120"  # to the tasks, not the batch shell
    assert values["open-mode"] == "append"
    assert "requeue" in values and "time" in values
    assert values["ntasks-per-node"] == values["gpus-per-node"]
