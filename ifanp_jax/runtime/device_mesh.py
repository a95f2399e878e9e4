"""The mesh: one axis, "data", over the devices of all processes. The only file that knows it.

A batch is split over the axis, parameters are held by every device. The compiled step sees whole arrays, so
the same code runs on one CPU and on a pod, with the same result up to rounding.
"""

import glob
import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ifanp_jax import memory
from ifanp_jax.errors import UserError, first_line
from ifanp_jax.runtime import cores, heartbeat

logger = logging.getLogger(__name__)

AXIS = "data"
JOIN_SECONDS = 300  # until all processes must have started
# Set by what starts several processes, with their number; JAX then finds the rest by itself.
NUM_PROCESSES_VARIABLES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def initialize(
    *, coordinator: str = "", num_processes: int = 0, process_id: int = -1, heartbeat_seconds: float = 60
) -> None:
    """Joins the processes of a run; a process that works alone makes CPU devices of its cores (`cores`).

    Call it before any other use of JAX.

    Args:
      coordinator: host:port of process 0; "" = found by JAX on TPU pods (also on GKE), Slurm and Open MPI.
      num_processes: of the run; given together with `coordinator`.
      process_id: of this one, from 0; given together with `coordinator`.
      heartbeat_seconds: as for `peers.watch`; JAX's own heartbeat is longer, so that ours speaks first.

    Raises:
      UserError: when only some of the three are given, or they cannot be right.
    """
    arguments = plan_join(coordinator, num_processes, process_id, environ=os.environ, is_tpu_vm=_is_tpu_vm())
    if arguments is None:
        cores.make_devices()
    else:
        _join(arguments, heartbeat_seconds)


def plan_join(
    coordinator: str, num_processes: int, process_id: int, *, environ: Mapping[str, str], is_tpu_vm: bool
) -> dict[str, Any] | None:
    """What `jax.distributed.initialize` is to be told; None = this process works alone.

    Arguments and errors are those of `initialize`, the environment, and whether this machine may be part of a
    TPU pod.
    """
    given = (bool(coordinator), num_processes > 0, process_id >= 0)
    if not any(given):
        return {} if has_several_processes(environ) or is_tpu_vm else None
    if not all(given):
        raise UserError(
            f"--coordinator={coordinator} --num_processes={num_processes} --process_id={process_id} are not "
            "complete; give all three, or none where the cluster tells them."
        )
    if ":" not in coordinator:
        raise UserError(f"--coordinator is {coordinator!r}; give host:port of process 0.")
    if process_id >= num_processes:
        raise UserError(
            f"--process_id is {process_id}; it must be below --num_processes, which is {num_processes}."
        )
    if num_processes == 1:
        return None
    return {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}


def has_several_processes(environ: Mapping[str, str]) -> bool:
    """Whether Slurm, Open MPI or GKE (a TPU slice) started this process as one of several."""
    counts = [environ.get(name, "") for name in NUM_PROCESSES_VARIABLES]
    is_one_of_several = any(count.isdigit() and int(count) > 1 for count in counts)
    return is_one_of_several or "," in environ.get("TPU_WORKER_HOSTNAMES", "")


def _join(arguments, heartbeat_seconds):
    where = f" at {arguments['coordinator_address']}" if arguments else ""
    late = (
        f"Not all processes of this run came together{where} within {JOIN_SECONDS} s; start every one of "
        "them again with the same command."
    )
    try:
        with heartbeat.deadline(JOIN_SECONDS, late):
            jax.distributed.initialize(
                heartbeat_timeout_seconds=int(3 * heartbeat_seconds + 10),
                initialization_timeout=JOIN_SECONDS + 60,
                **arguments,
            )
    except (ValueError, RuntimeError) as error:
        reason = first_line(error)
        if arguments:
            raise UserError(
                f"The processes cannot be joined{where} ({reason}); give a --coordinator that all of them "
                "reach."
            ) from None
        if has_several_processes(os.environ):
            raise UserError(
                f"JAX does not find the other processes of this run ({reason}); give --coordinator, "
                "--num_processes and --process_id."
            ) from None
        logger.warning("This TPU machine is no part of a pod that JAX knows; it works alone.")


def _is_tpu_vm() -> bool:
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and "tpu" not in platforms:
        return False
    has_chips = bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
    return has_chips and importlib.util.find_spec("libtpu") is not None


def is_first_process() -> bool:
    """Whether this process writes the files of the run."""
    return jax.process_index() == 0


def make_mesh(*, devices: list[jax.Device] | None = None, batch_size: int = 0) -> Mesh:
    """A mesh with the axis "data" over `devices`, or over all of all processes.

    The devices of a process stand side by side, so that its rows of a batch are one slice.
    (`jax.make_mesh` orders them otherwise on TPU pods and refuses several GPU hosts.)

    Args:
      devices: None = all.
      batch_size: of a process on a CPU that works alone: it takes as many devices as share this equally.
    """
    devices = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    if batch_size and devices[0].platform == "cpu" and jax.process_count() == 1:
        devices = devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)]
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh, *, axis: int = 0) -> NamedSharding:
    """The devices share the array along `axis`."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, AXIS))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises a UserError when the devices cannot share a batch equally."""
    if excess := batch_size % mesh.size:
        lower = batch_size - excess
        nearest = " or ".join(str(size) for size in (lower, lower + mesh.size) if size)
        raise UserError(
            f"config.train.batch_size is {batch_size} but {mesh.size} devices share a batch equally; choose "
            f"{nearest}."
        )


def put_rows(images: np.ndarray, mesh: Mesh) -> jax.Array:
    """Shares images among the devices; a process reads only the rows of its own.

    Args:
      images: (N, ...) in host memory or memory-mapped, the same in every process.
      mesh: from `make_mesh`.

    Returns:
      (M, ...), M the next multiple of the number of devices; rows from N on are zeros.
    """
    num_rows = -(-len(images) // mesh.size) * mesh.size

    def read(index):
        rows = np.asarray(images[index])
        start, stop, _ = index[0].indices(num_rows)
        return np.pad(rows, ((0, stop - start - len(rows)),) + ((0, 0),) * (rows.ndim - 1))

    return jax.make_array_from_callback((num_rows, *images.shape[1:]), batched(mesh), read)


def local_rows(batch_size: int, mesh: Mesh) -> slice:
    """The rows of a batch that the devices of this process hold: one slice, see `make_mesh`."""
    index_of = batched(mesh).addressable_devices_indices_map((batch_size,))
    bounds = [index[0].indices(batch_size)[:2] for index in index_of.values()]
    return slice(min(start for start, _ in bounds), max(stop for _, stop in bounds))


def put_local_rows(images: np.ndarray, mesh: Mesh, *, axis: int) -> jax.Array:
    """Makes the whole array, split along `axis`, of the `local_rows` that each process read."""
    num_rows = images.shape[axis] * mesh.size // len(mesh.local_devices)
    shape = (*images.shape[:axis], num_rows, *images.shape[axis + 1 :])
    return jax.make_array_from_process_local_data(batched(mesh, axis=axis), images, shape)


def gather(images: jax.Array, index: jax.Array, mesh: Mesh) -> jax.Array:
    """`images[index]` in a program: a batch that the devices of the mesh share."""
    # Every device computes every index: that is less than sending them.
    index = jax.lax.with_sharding_constraint(index, replicated(mesh))
    return jax.lax.with_sharding_constraint(images[index], batched(mesh))


def agree(value: int) -> int:
    """What the first process says: all must then do the same."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))


def make_find_largest(mesh: Mesh) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    """Returns `find_largest(numbers)`: of each number the largest among all processes.

    Each process calls it after every dispatch. Accelerators answer one dispatch late, so that nothing waits
    (first with zeros); all processes get the same answer.
    """
    if jax.process_count() == 1:
        return lambda numbers: numbers
    largest = jax.jit(lambda rows: rows.max(axis=0), out_shardings=replicated(mesh))
    is_late = jax.default_backend() != "cpu"  # processes on CPUs must not overlap what they compute
    answers = []

    def find_largest(numbers):
        rows = np.tile(np.asarray(numbers, np.int32), (len(mesh.local_devices), 1))
        answers.append(largest(put_local_rows(rows, mesh, axis=0)))
        if len(answers) <= is_late:
            return (0,) * len(numbers)
        return tuple(np.asarray(answers.pop(0)).tolist())

    return find_largest


def first_copy(tree: Any) -> Any:
    """The first copy of replicated arrays that this process holds, for work that it does alone."""
    return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)


def device_bytes(device: jax.Device) -> int:
    """Memory of a device in bytes; CPU devices share that of the machine, or of its container."""
    stats = device.memory_stats() or {}
    if stats.get("bytes_limit"):
        return stats["bytes_limit"]
    return memory.machine_bytes() // len(jax.local_devices(backend=device.platform))


def check_memory(compiled: jax.stages.Compiled, batch_size: int, mesh: Mesh) -> None:
    """Raises a UserError when a compiled step of `batch_size` images in all will not fit on its devices."""
    device, analysis = mesh.local_devices[0], compiled.memory_analysis()
    if analysis is None or not (device.platform == "cpu" or device.memory_stats()):
        return  # nothing is known
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    needed, available = held + analysis.temp_size_in_bytes, device_bytes(device)
    if needed <= available:
        return
    share = max(0, available - held) / max(1, analysis.temp_size_in_bytes)
    fitting = int(0.9 * share * batch_size) // mesh.size * mesh.size
    advice = f"config.train.batch_size={fitting} should fit" if fitting else "take more devices"
    raise UserError(
        f"A step of config.train.batch_size={batch_size} needs about {needed / 2**30:.1f} GiB on each "
        f"device, which has {available / 2**30:.1f} GiB; {advice}, or take a smaller model or images."
    )
