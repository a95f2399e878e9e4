"""What `test_sharing.py` compares: work that devices share, with one and with three of them.

python -m tests.runtime.sharing_worker OUTPUT
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.evaluation import by_rounds, evaluate
from ifanp_jax.evaluation.options import Options
from ifanp_jax.modules import gca, grid
from ifanp_jax.modules.fast.conv3x3 import Conv3x3
from ifanp_jax.runtime import device_mesh, sharing
from ifanp_jax.training import optimizer, runs
from tests import tiny
from tests.helpers import random_image, random_mask
from tests.inference.conftest import make_tiled_model

NUM_DEVICES = 3
# Three kernels of one shape, two of another and one of its own.
KERNELS = {
    "conv": [{"kernel": jnp.full((3, 3, 2, 4), 0.1), "bias": jnp.zeros(4)} for _ in range(3)],
    "dense": [{"kernel": jnp.full((6, 5), 0.1), "bias": jnp.zeros(5)} for _ in range(2)],
    "to_image": {"kernel": jnp.full((4, 6), 0.1)},
    "mean_head": {"kernel": jnp.full((6, 5), 0.1)},
}
SIZE = (41, 53)  # six tiles


def make_run(name):
    config = tiny.make_config(**{"evaluate.rounds": 2})
    config.model = tiny.make_model_config(name, likelihood="per_pixel")
    return runs.make(config, (8, 8, 1))


def make_updates(tx):
    """The second update of an optimiser, so that what it keeps counts too; the devices share it."""
    mesh, generator = device_mesh.make_mesh(), np.random.default_rng(0)
    replicated = device_mesh.replicated(mesh)
    update = jax.jit(sharing.announced(tx.update, mesh), out_shardings=replicated)
    state = jax.device_put(tx.init(KERNELS), replicated)
    for _ in range(2):
        gradients = jax.tree.map(lambda x: generator.normal(size=x.shape).astype(np.float32), KERNELS)
        updates, state = update(gradients, state, KERNELS)
    return updates


def make_gradient():
    """The gradient of a kernel from 6 images, which the devices share."""
    mesh = device_mesh.make_mesh()
    x, weights = jax.random.normal(jax.random.key(0), (2, 6, 5, 4, 3))
    x, weights = jax.device_put((x, weights), device_mesh.batched(mesh))
    conv = Conv3x3(3, use_bias=False)

    def find_gradient(kernel, x, weights):
        return jax.grad(lambda k: jnp.vdot(conv.apply({"params": {"kernel": k}}, x), weights))(kernel)

    return jax.jit(sharing.announced(find_gradient, mesh))(jnp.ones((3, 3, 3, 3)), x, weights)


def make_attention():
    """What GCA says of 6 images, which the devices share, and its gradients."""
    mesh, batch = device_mesh.make_mesh(), (6, 4, 4)
    values, weights = jax.random.normal(jax.random.key(1), (2, *batch, 2))
    mask = jax.random.bernoulli(jax.random.key(2), 0.5, (*batch, 1))
    module, coordinates = gca.GlobalCrossAttention(2), grid.coordinates(4, 4)
    variables = module.init(jax.random.key(3), values, mask, coordinates)
    values, mask, weights = jax.device_put((values, mask, weights), device_mesh.batched(mesh))

    def attend(variables, values, mask, weights):
        def score(variables, values):
            answer = module.apply(variables, values, mask, coordinates)
            return jnp.vdot(answer, weights), answer

        return jax.value_and_grad(score, argnums=(0, 1), has_aux=True)(variables, values)

    return jax.tree.leaves(jax.jit(sharing.announced(attend, mesh))(variables, values, mask, weights))


def measure():
    """Evaluations of 8 images in calls of 6, a picture in tiles, gradients and an update of Muon, by name."""
    found, images = {}, tiny.digits().evaluation[:8]
    config = tiny.make_config(**{"train.optimizer": "muon"})
    updates = make_updates(optimizer.make_optimizer(config.train))
    found |= {f"update/{index}": x for index, x in enumerate(jax.tree.leaves(updates))}
    found["gradient"] = make_gradient()
    found |= {f"attention/{index}": x for index, x in enumerate(make_attention())}
    contexts = np.random.default_rng(0).random((8, 8, 8, 1)) < 0.4
    for name, evaluate_some in (
        ("image_np.IFANP", by_rounds.evaluate_samples),
        ("point_np.ANP", evaluate.evaluate_images),
    ):
        run = make_run(name)
        state = jax.jit(run.step.init, static_argnums=1)(jax.random.key(0), run.image_shape)
        model = dataclasses.replace(run, state=state).model
        values = evaluate_some(model, images, contexts, Options.of(run.config))
        found |= {f"{name}/{key}": value for key, value in values.items()}
    model = make_tiled_model()
    answer = model.complete(random_image(*SIZE, 3), random_mask(*SIZE), num_samples=2, rounds=2)
    found |= {name: getattr(answer, name) for name in ("samples", "mean", "uncertainty")}
    return found


if __name__ == "__main__":
    assert jax.device_count() == NUM_DEVICES
    np.savez(sys.argv[1], **measure())
