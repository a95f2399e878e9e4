"""What `test_step.py` runs on two fake devices, which are asked for before JAX starts."""

import sys

import jax
import numpy as np

from ifanp_jax.runtime import device_mesh
from tests.inpainters import trainings as inpainters


def two_updates(run, state, update):
    """Losses of both updates and the statistics after them, as one list of arrays.

    Running means are left out: they follow biases that normalisation takes away, whose gradient is rounding.
    """
    key, logged = jax.random.key(3), []
    for seed in (0, 1):
        batches = inpainters.draw_batches(run, seed=seed)
        if jax.device_count() > 1:
            batches = jax.device_put(batches, device_mesh.batched(device_mesh.make_mesh(), axis=1))
        state, metrics = update(key, state, batches)
        logged.append(metrics)
    statistics = jax.tree_util.tree_leaves_with_path(state.generator.batch_stats)
    variances = [leaf for path, leaf in statistics if "var" in jax.tree_util.keystr(path)]
    return [np.ravel(x) for x in jax.tree.leaves((logged, variances))]


if __name__ == "__main__":
    assert jax.device_count() == 2
    np.savez(sys.argv[1], *two_updates(*inpainters.build_whole(inpainters.CHEAPEST)))
