"""What `test_device_mesh.py` runs in processes of their own, since fake devices are asked for before JAX.

python -m tests.runtime.mesh_worker steps OUTPUT
python -m tests.runtime.mesh_worker run PROCESS_ID NUM_PROCESSES COORDINATOR WORKDIR=PLACEMENT[=SOURCE]...
"""

import pathlib
import sys

import jax
import numpy as np

from ifanp_jax.evaluation import validation
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import dispatch, loop, runs
from tests import tiny

NUM_STEPS = 6
DEVICE_COUNTS = (1, 4)


def make_config(**overrides):
    return tiny.make_config(**{"train.batch_size": 16} | overrides)


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(device_mesh.first_copy(tree))])


def train_on(mesh, config, images):
    """Parameters after the last step, and the loss of each."""
    run, streams = runs.make(config, images.shape[1:]), dispatch.make_streams(1)
    init = jax.jit(run.step.init, static_argnums=1, out_shardings=device_mesh.replicated(mesh))
    state = init(jax.random.key(0), run.image_shape)
    train_steps = dispatch.make_train_steps(streams, run, mesh=mesh, num_images=len(images))
    dispatches = [(step, 1) for step in range(NUM_STEPS)]
    losses = []
    for _, resident in dispatch.make_feed(streams, run, images, dispatches, mesh=mesh, is_streamed=False):
        state, metrics = train_steps(state, resident, 1)
        losses.append(float(metrics["loss"][0]))  # also waits: fake devices deadlock when dispatches overlap
    return flatten(state.params), np.array(losses)


def check_rows(mesh):
    """Each of the devices holds its own share of the rows, zeros after the last, and batches are gathered."""
    images = np.random.default_rng(0).integers(1, 256, (10, 2, 3, 1), np.uint8)
    put = device_mesh.put_rows(images, mesh)
    per_device = -(-len(images) // mesh.size)
    assert put.shape[0] == per_device * mesh.size
    assert [shard.data.shape[0] for shard in put.addressable_shards] == [per_device] * mesh.size
    np.testing.assert_array_equal(put[: len(images)], images)
    assert not np.any(put[len(images) :])

    index = np.array([9, 0, 3, 3, 7, 1, 8, 2])
    gathered = jax.jit(lambda images, index: device_mesh.gather(images, index, mesh))(put, index)
    np.testing.assert_array_equal(gathered, images[index])
    assert [shard.data.shape[0] for shard in gathered.addressable_shards] == [8 // mesh.size] * mesh.size

    assert device_mesh.local_rows(8, mesh) == slice(0, 8)
    steps = np.stack([images[index], images[index[::-1]]])
    put = device_mesh.put_local_rows(steps, mesh, axis=1)
    np.testing.assert_array_equal(put, steps)
    assert [shard.data.shape[:2] for shard in put.addressable_shards] == [(2, 8 // mesh.size)] * mesh.size


def run_steps(output):
    images = tiny.digits().train
    assert len(images) % 2 and len(images) % 4  # so the last device holds fewer images than the others
    results = {}
    for count in DEVICE_COUNTS:
        mesh = device_mesh.make_mesh(devices=jax.devices()[:count])
        assert mesh.size == count
        check_rows(mesh)
        config = make_config(**{"train.num_steps": NUM_STEPS})
        results[f"params_{count}"], results[f"losses_{count}"] = train_on(mesh, config, images)
    np.savez(output, **results)


def run_training(process_id, num_processes, coordinator, *tasks):
    if int(num_processes) > 1:
        device_mesh.initialize(
            coordinator=coordinator, num_processes=int(num_processes), process_id=int(process_id)
        )
    assert jax.process_count() == int(num_processes)
    assert jax.device_count() == 2
    check_agreement(int(process_id), int(num_processes))
    dataset = tiny.digits()
    for task in tasks:
        workdir, placement, *source = task.split("=")
        config = make_config(**{"data.placement": placement, "train.init_from": "".join(source)})
        validate = validation.make_validation(config, dataset)
        loop.run(config, pathlib.Path(workdir), dataset, validate=validate)


def check_agreement(index, num_processes):
    """All hear the largest of each number, and what the first process says."""
    mesh = device_mesh.make_mesh()
    last = num_processes - 1
    find_largest = device_mesh.make_find_largest(mesh)
    assert find_largest((index, last - index, 0)) == (last, last, 0)
    assert find_largest((15 if index == 0 else 0, int(index == last))) == (15, 1)
    assert device_mesh.agree(index + 7) == 7


if __name__ == "__main__":
    {"steps": run_steps, "run": run_training}[sys.argv[1]](*sys.argv[2:])
