"""The mesh: what starts several processes, and that neither devices nor processes change the numbers."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import types

import chex
import jax
import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import validation
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import loop, runs
from tests import tiny
from tests.helpers import ROOT, read_rows
from tests.runtime import mesh_worker


def test_several_processes_are_known_by_the_environment():
    several = (
        {"SLURM_STEP_NUM_TASKS": "4"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"SLURM_STEP_NUM_TASKS": "1", "OMPI_COMM_WORLD_SIZE": "2"},
        {"TPU_WORKER_HOSTNAMES": "host-0,host-1"},
    )
    alone = (
        {},
        *({"SLURM_STEP_NUM_TASKS": value} for value in ("1", "", "many")),
        {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"},  # a batch script, itself one process
        {"OMPI_COMM_WORLD_SIZE": "1"},
        *({"TPU_WORKER_HOSTNAMES": value} for value in ("", "localhost")),
    )
    assert [environ for environ in several if not device_mesh.has_several_processes(environ)] == []
    assert [environ for environ in alone if device_mesh.has_several_processes(environ)] == []


@dataclasses.dataclass(frozen=True)
class Device:
    process_index: int
    id: int
    platform: str = "gpu"


def test_the_devices_of_a_process_stand_side_by_side():
    devices = [Device(1, 2), Device(0, 0), Device(1, 3), Device(0, 1)]
    mesh = device_mesh.make_mesh(devices=devices)
    assert [device.id for device in mesh.devices.flat] == [0, 1, 2, 3]


def plan(coordinator="", num_processes=0, process_id=-1, environ=None, is_tpu_vm=False):
    return device_mesh.plan_join(
        coordinator, num_processes, process_id, environ=environ or {}, is_tpu_vm=is_tpu_vm
    )


def test_processes_join_as_told_or_as_jax_finds_them():
    assert plan() is None and plan("localhost:1234", 1, 0) is None
    expected = {"coordinator_address": "localhost:1234", "num_processes": 3, "process_id": 2}
    assert plan("localhost:1234", 3, 2) == expected
    assert plan("localhost:1234", 3, 2, environ={"SLURM_STEP_NUM_TASKS": "4"}, is_tpu_vm=True) == expected
    assert plan(environ={"SLURM_STEP_NUM_TASKS": "4"}) == plan(is_tpu_vm=True) == {}


def test_jax_is_given_longer_than_the_own_watch(monkeypatch):
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
    device_mesh.initialize(coordinator="localhost:1234", num_processes=3, process_id=2, heartbeat_seconds=7)
    [call] = calls
    assert call["heartbeat_timeout_seconds"] > 2 * 7
    assert call["initialization_timeout"] > device_mesh.JOIN_SECONDS
    assert call["process_id"] == 2


def test_arguments_that_cannot_be_right_are_told_in_one_sentence():
    address = "localhost:1234"
    for *arguments, message in (
        (address, 0, -1, "are not complete"),
        ("", 2, -1, "are not complete"),
        ("", 0, 0, "are not complete"),
        ("", 2, 0, "are not complete"),
        (address, 2, -1, "are not complete"),
        (address, 0, 0, "are not complete"),
        ("localhost", 2, 0, "give host:port"),
        (address, 2, 2, "must be below"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            plan(*arguments)
        text = str(caught.value)
        assert text.endswith(".") and text.count(". ") == 0 and "\n" not in text


def test_one_process_gets_what_it_asks_for():
    assert device_mesh.make_find_largest(device_mesh.make_mesh())((15, 0)) == (15, 0)


def test_a_batch_that_devices_cannot_share_names_its_neighbours():
    mesh = types.SimpleNamespace(size=4)
    for batch_size in (4, 64):
        device_mesh.check_batch_size(batch_size, mesh)
    for batch_size, nearest in ((10, "8 or 12"), (3, "4"), (5, "4 or 8")):
        with pytest.raises(UserError, match=rf"is {batch_size} but 4 devices .* choose {nearest}\.$"):
            device_mesh.check_batch_size(batch_size, mesh)


def test_the_mesh_has_one_axis_over_all_devices():
    mesh = device_mesh.make_mesh()
    assert mesh.axis_names == ("data",)
    assert mesh.devices.tolist() == jax.devices()


def test_cpu_devices_are_as_many_as_share_the_batch_and_accelerators_all():
    for batch_size, count in ((64, 4), (9, 3), (6, 3), (2, 2), (7, 1)):
        for platform, expected in (("cpu", count), ("gpu", 4)):
            devices = [Device(process_index=0, id=i, platform=platform) for i in range(4)]
            mesh = device_mesh.make_mesh(devices=devices, batch_size=batch_size)
            assert mesh.devices.tolist() == devices[:expected]


def test_rows_are_put_and_gathered_on_one_device():
    mesh = device_mesh.make_mesh(devices=jax.devices()[:1])
    mesh_worker.check_rows(mesh)


def test_rows_of_memory_mapped_images_are_put(tmp_path):
    images = np.arange(24, dtype=np.uint8).reshape(4, 3, 2, 1)
    np.save(tmp_path / "train.npy", images)
    put = device_mesh.put_rows(np.load(tmp_path / "train.npy", mmap_mode="r"), device_mesh.make_mesh())
    np.testing.assert_array_equal(put, images)


def start_worker(*arguments, num_devices):
    environ = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.runtime.mesh_worker", *map(str, arguments)],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(*workers):
    """Waits for all; shows what they wrote when one failed or hangs."""
    try:
        errors = [worker.communicate(timeout=600)[1] for worker in workers]
    except subprocess.TimeoutExpired:
        for worker in workers:
            worker.kill()
        pytest.fail("\n".join(worker.communicate()[1] for worker in workers))
    if any(worker.returncode for worker in workers):
        pytest.fail("\n".join(errors))


def test_several_devices_train_as_one(tmp_path):
    path = tmp_path / "results.npz"
    wait_for(start_worker("steps", path, num_devices=max(mesh_worker.DEVICE_COUNTS)))
    found = np.load(path)
    assert len(np.unique(found["losses_1"])) == mesh_worker.NUM_STEPS  # each step had a batch of its own
    for count in mesh_worker.DEVICE_COUNTS[1:]:
        np.testing.assert_allclose(found[f"losses_{count}"], found["losses_1"], rtol=1e-5)
        np.testing.assert_allclose(found[f"params_{count}"], found["params_1"], rtol=0, atol=1e-5)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def forget_after(step, workdir):
    """Removes the later checkpoints, so that a run goes on from there."""
    checkpoints = workdir / "checkpoints"
    for path in checkpoints.iterdir():
        if int(path.name.removeprefix("step_")) > step:
            shutil.rmtree(path)
    assert (checkpoints / f"step_{step}").is_dir()


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """A run of one process with two devices, and one, streamed, that goes on with two processes."""
    path = tmp_path_factory.mktemp("processes")
    wait_for(start_worker("run", 0, 1, "", f"{path}/one=device", num_devices=2))
    shutil.copytree(path / "one", path / "two")
    forget_after(3, path / "two")
    run_two(f"{path}/two=stream")
    return path


def run_two(*tasks):
    coordinator = f"127.0.0.1:{free_port()}"
    wait_for(*(start_worker("run", index, 2, coordinator, *tasks, num_devices=1) for index in range(2)))


def assert_same_run(workdir, expected):
    state = runs.load(workdir).state
    assert int(state.step) == 6
    chex.assert_trees_all_equal(state, runs.load(expected).state)
    rows = read_rows(workdir)
    assert [row["step"] for row in rows] == [2, 4, 4, 6, 6]
    # A process validates alone, by all of its devices: two round otherwise than one.
    for row, other in zip(rows, read_rows(expected), strict=True):
        chex.assert_trees_all_close(row, other, rtol=1e-6 if "val/psnr" in row else 0)


def test_two_processes_train_as_one_with_two_devices_bit_for_bit(workdirs):
    assert_same_run(workdirs / "two", workdirs / "one")


@pytest.mark.slow
def test_two_processes_start_from_the_parameters_of_another_training(workdirs):
    source = workdirs / "one"
    wait_for(start_worker("run", 0, 1, "", f"{workdirs}/one_started=device={source}", num_devices=2))
    run_two(f"{workdirs}/two_started=device={source}")
    assert_same_run(workdirs / "two_started", workdirs / "one_started")


def test_one_device_goes_on_from_the_checkpoint_of_two_processes(workdirs, tmp_path):
    source = workdirs / "two"
    shutil.copytree(source, tmp_path / "run")
    forget_after(3, tmp_path / "run")
    config, dataset = runs.read(source)[0], tiny.digits()
    validate = validation.make_validation(config, dataset)
    run = loop.run(config, tmp_path / "run", dataset, validate=validate)
    chex.assert_trees_all_close(run.state.params, runs.load(source).state.params, rtol=0, atol=1e-5)
    rows, expected = read_rows(tmp_path / "run"), read_rows(source)
    assert rows[:1] == expected[:1]  # those up to the checkpoint are left as they were
    chex.assert_trees_all_close(rows, expected, rtol=1e-4)
