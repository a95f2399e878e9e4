"""tpu_vm.sh and what it sends to the workers, against fakes."""

import configparser
import pathlib

import pytest

from tests.launch.commands import LAUNCH, shellcheck

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
