"""What `test_sharding.py` runs in processes of their own: fake devices must be asked for before JAX starts.

python -m tests.sharding_worker steps OUTPUT
python -m tests.sharding_worker run PROCESS_ID NUM_PROCESSES COORDINATOR WORKDIR=PLACEMENT...
"""

import pathlib
import sys

import jax
import numpy as np

from configs import digits_ifanp
from ifanp_jax.data import sources
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import loop, runs

NUM_STEPS = 20
DEVICE_COUNTS = (1, 2, 4)


def small_config(**overrides):
    config = digits_ifanp.get_config()
    config.update_from_flattened_dict(
        {
            "model.width": 8,
            "model.latent_dim": 4,
            "model.encoder_depth": 1,
            "model.decoder_depth": 1,
            "train.num_steps": 6,
            "train.batch_size": 16,
            "train.log_every": 2,
            "train.validate_every": 4,
            "train.checkpoint_every": 3,
        }
        | overrides
    )
    return config


def flatten(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(device_mesh.first_copy(tree))])


def train_on(mesh, config, images):
    """Parameters after the last step, and the loss of each."""
    model, tx, init = runs.make_model(config, images.shape[1:])
    state = jax.jit(init, out_shardings=device_mesh.replicated(mesh))(jax.random.key(0))
    key = jax.random.key(1)
    train_steps = loop.make_train_step(key, config, model, tx, mesh=mesh, num_images=len(images))
    dispatches = [(step, 1) for step in range(NUM_STEPS)]
    losses = []
    for _, resident in loop.make_feed(key, config, images, dispatches, mesh=mesh, is_streamed=False):
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
    gathered = jax.jit(device_mesh.make_gather(mesh))(put, index)
    np.testing.assert_array_equal(gathered, images[index])
    assert [shard.data.shape[0] for shard in gathered.addressable_shards] == [8 // mesh.size] * mesh.size

    assert device_mesh.local_rows(8, mesh) == slice(0, 8)
    steps = np.stack([images[index], images[index[::-1]]])
    put = device_mesh.put_local_rows(steps, mesh, axis=1)
    np.testing.assert_array_equal(put, steps)
    assert [shard.data.shape[:2] for shard in put.addressable_shards] == [(2, 8 // mesh.size)] * mesh.size


def run_steps(output):
    images = sources.get(small_config().data).train
    assert len(images) % 2 and len(images) % 4  # so the last device holds fewer images than the others
    results = {}
    for count in DEVICE_COUNTS:
        mesh = device_mesh.make_mesh(devices=jax.devices()[:count])
        assert mesh.size == count
        check_rows(mesh)
        config = small_config(**{"train.num_steps": NUM_STEPS})
        results[f"params_{count}"], results[f"losses_{count}"] = train_on(mesh, config, images)
    np.savez(output, **results)


def run_training(process_id, num_processes, coordinator, *tasks):
    if int(num_processes) > 1:
        device_mesh.initialize(
            coordinator=coordinator, num_processes=int(num_processes), process_id=int(process_id)
        )
    assert jax.process_count() == int(num_processes)
    assert jax.device_count() == 2
    dataset = sources.get(small_config().data)
    for task in tasks:
        workdir, placement = task.rsplit("=", 1)
        loop.run(small_config(**{"data.placement": placement}), pathlib.Path(workdir), dataset)


if __name__ == "__main__":
    {"steps": run_steps, "run": run_training}[sys.argv[1]](*sys.argv[2:])
