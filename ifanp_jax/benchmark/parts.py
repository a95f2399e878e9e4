"""The parts of a training step of an image-faced neural process, one by one."""

from typing import Any

import jax
import jax.numpy as jnp

from ifanp_jax import objectives
from ifanp_jax.benchmark import inputs, timing
from ifanp_jax.models import image_np
from ifanp_jax.modules import grid
from ifanp_jax.training import dispatch, keys, optimizer


def measure_parts(case: inputs.Case) -> list[dict]:
    """Each part of the step at the step's shapes, forward and with its gradients; [] for other families.

    The gradients are those by the parameters and by what the part before computed.
    """
    run = case.run
    if not isinstance(run.model, image_np.ImageNeuralProcess):
        return []
    batch = inputs.random_batch(run.config.train.batch_size, run.image_shape)
    state = jax.jit(lambda key: run.step.init(key, run.image_shape))(jax.random.key(run.config.seed))
    variables = run.step.variables(state)
    rows = []
    for name, function, values in (*_list_modules(run, variables, batch), _make_objective(run, batch)):
        entry = timing.measure_part(function, values, gemm_rate=case.gemm_rate, effort=case.effort)
        rows.append({"part": name, **entry})
    rows.append({"part": "optimiser", **_measure_optimiser(case, variables["params"])})
    rows.append({"part": "batch and contexts", **_measure_batches(case)})
    return [row | {"batch_size": len(batch.image)} for row in rows]


def _list_modules(run, variables, batch) -> list[tuple[str, Any, tuple]]:
    """Name, function and inputs of each module; the inputs begin with its variables."""
    config, bound, (h, w, c) = run.config, run.model.bind(variables), run.image_shape
    b, width, positions = len(batch.image), run.model.width, grid.coordinates(h, w)
    features = jax.random.normal(jax.random.key(1), (b, h, w, width), jnp.dtype(run.model.compute_dtype))
    masked = jax.random.normal(jax.random.key(2), (b, h, w, c + 2))
    z = jax.random.normal(jax.random.key(3), (config.objective.num_samples, b, run.model.latent_dim))
    rows = []

    def add(name, bound_module, inputs, fixed):
        module, variables = bound_module.unbind()

        def apply(variables, *inputs):
            return module.apply(variables, *inputs, *fixed)

        rows.append((name, apply, (variables, *inputs)))

    add("encoder 1, context and full", bound.encoder1, (), (jnp.concatenate([masked] * 2),))
    if bound.encoder_extra == "lpa":
        add("LPA, context and full", bound.extra, (jnp.concatenate([features] * 2),), ())
    if bound.has_deterministic_path:
        add("encoder 2", bound.encoder2, (), (masked,))
        add("GCA", bound.attention[0], (features,), (batch.mask, positions))
        add("decoder", bound.decoder, (z, features), (positions,))
    else:
        add("decoder", bound.decoder, (z,), (None, positions))
    return rows


def _make_objective(run, batch):
    def objective(mean):
        targets = jnp.ones_like(batch.mask)
        sigma = jnp.full_like(mean, 0.1)
        return objectives.gaussian_log_prob(batch.image, mean, sigma, targets).mean()

    shape = (run.config.objective.num_samples, *batch.image.shape)
    return "objective", objective, (jax.random.uniform(jax.random.key(4), shape),)


def _measure_optimiser(case, params):
    tx = optimizer.make_optimizer(case.run.config.train)
    gradient = jax.tree.map(jnp.ones_like, params)

    def update(opt_state):
        return tx.update(gradient, opt_state, params)

    return timing.measure(update, tx.init(params), effort=case.effort)


def _measure_batches(case):
    run, num_images = case.run, case.effort.num_images
    list_indices, make_batch = dispatch.make_sampler(keys.make_streams(0), run.config, num_images)
    images = jnp.asarray(inputs.random_images(num_images, run.image_shape))

    def sample(number):
        return make_batch(images[list_indices(number)], number)

    return timing.measure(sample, jnp.int32(1), effort=case.effort)
