"""Our own model as a peer: the compiled step on one batch, and `Model`."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import traverse_util

from ifanp_jax.data import sampling
from ifanp_jax.models import parameters
from ifanp_jax.runtime import cores, device_mesh, sharing
from ifanp_jax.training import runs


class Peer:
    """One model with its state and batch."""

    is_compiled = False  # the first completion compiles

    def __init__(self, task, arrays):
        """Takes what `peers.write_task` wrote."""
        cores.make_devices()
        run = runs.make(*runs.parse_record(task["record"]))
        mesh = device_mesh.make_mesh(batch_size=len(arrays["image"]))
        replicated = device_mesh.replicated(mesh)
        flat = {n.removeprefix("weights/"): x for n, x in arrays.items() if n.startswith("weights/")}
        params = traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, flat), sep="/")
        init = jax.jit(lambda key: run.step.init(key, run.image_shape), out_shardings=replicated)
        self.state = init(jax.random.key(0)).replace(params=jax.device_put(params, replicated))
        batches = sampling.Batch(image=arrays["image"][None], mask=arrays["mask"][None])
        self.batches = jax.device_put(batches, device_mesh.batched(mesh, axis=1))
        update = sharing.announced(run.step.update, mesh)
        self.update = jax.jit(update, donate_argnums=1, out_shardings=replicated)
        self.key = jax.random.key(task["seed"])
        self.run, self.arrays = run, arrays
        num_parameters = parameters.count_parameters(params)
        self.facts = {"num_parameters": num_parameters, "version": f"jax {jax.__version__}"}

    def train_step(self):
        """One optimiser step; answers with its images."""
        self.state, _ = self.update(self.key, self.state, self.batches)
        return len(self.arrays["image"])

    def wait(self):
        """Until the steps are done."""
        jax.block_until_ready(self.state)

    def complete(self):
        """Completes the picture once."""
        state = device_mesh.first_copy(self.state)
        model = dataclasses.replace(self.run, state=state).model
        picture, mask = self.arrays["picture"][0], self.arrays["picture_mask"][0]
        model.complete(picture, mask, num_samples=1, rounds=1, size="own")

    def terms(self):
        """What a peer with the same weights is compared with comes from `peers.expect`."""
        raise NotImplementedError("its own terms")
