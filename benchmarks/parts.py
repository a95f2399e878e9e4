"""The parts of a training step of an image-faced or a multi-scale neural process, one by one."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import inputs, timing
from ifanp_jax import objectives
from ifanp_jax.models import image_np, multiscale_np
from ifanp_jax.modules import grid
from ifanp_jax.training import dispatch, optimizer, runs


def measure_parts(case: inputs.Case) -> list[dict]:
    """Each part of the step at the step's shapes, forward and with its gradients; [] for other families.

    The gradients are those by the parameters and by what the part before computed.
    """
    run = case.run
    found = list_parts(run)
    rows = []
    for name, function, values in found:
        values = jax.tree.map(_draw, values)
        entry = timing.measure_part(function, values, gemm_rate=case.gemm_rate, effort=case.effort)
        rows.append({"part": name, **entry})
    if found:
        params = jax.tree.map(_draw, runs.abstract_state(run).params)
        rows.append({"part": "optimiser", **_measure_optimiser(case, params)})
        rows.append({"part": "batch and contexts", **_measure_batches(case)})
    return [row | {"batch_size": run.config.train.batch_size} for row in rows]


def _draw(x):
    """Random numbers of a shape; those of a layer as large as its inputs ask for."""
    spread = 1 / math.sqrt(math.prod(x.shape[:-1])) if x.ndim in (1, 2) else 1.0
    values = np.random.default_rng(x.size).normal(0, spread, x.shape)
    return jnp.asarray(values, x.dtype)


def list_parts(run: runs.Run) -> list[tuple[str, Callable, tuple]]:
    """Name, function and shapes of the inputs of each part of the step; the inputs begin with its variables.

    Args:
      run: of an image-faced or a multi-scale neural process; [] for other families.
    """
    variables = {"params": runs.abstract_state(run).params}
    if isinstance(run.module, image_np.ImageNeuralProcess):
        return [*_list_modules(run, variables), _make_objective(run)]
    if isinstance(run.module, multiscale_np.MultiscaleNP):
        return _list_multiscale(run, variables)
    return []


def _shape(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def _draw_mask(run):
    b, (h, w, _) = run.config.train.batch_size, run.image_shape
    return jnp.asarray(np.random.default_rng(0).random((b, h, w, 1)) < inputs.OBSERVED_SHARE)


def _list_modules(run, variables):
    config, model, (h, w, c) = run.config, run.module, run.image_shape
    b, width, positions, mask = config.train.batch_size, model.width, grid.coordinates(h, w), _draw_mask(run)
    features = _shape(b, h, w, width, dtype=jnp.dtype(model.compute_dtype))
    masked, image = _shape(b, h, w, c + 2), _shape(2 * b, h, w, c)
    z = _shape(config.objective.num_samples, b, model.latent_dim)
    bound, rows = model.bind(variables), []

    def add(name, bound_module, *inputs, fixed=()):
        module, own = bound_module.unbind()
        rows.append((name, lambda own, *inputs: module.apply(own, *inputs, *fixed), (own, *inputs)))

    def find_latent(variables, image):
        return model.apply(variables, image, jnp.repeat(mask, 2, axis=0), method="latent")

    rows.append(("latent path, context and full", find_latent, (variables, image)))
    if bound.has_deterministic_path:
        add("encoder 2", bound.encoder2, masked)
        add("GCA", bound.attention[0], features, fixed=(mask, positions))
        add("decoder", bound.decoder, z, features, fixed=(positions,))
    else:
        add("decoder", bound.decoder, z, fixed=(None, positions))
    return rows


def _list_multiscale(run, variables):
    """Kernel interpolation, the way down, the way up, and heads with the objective."""
    model, mask, (h, w, c) = run.module, _draw_mask(run), run.image_shape
    b, image = run.config.train.batch_size, _shape(run.config.train.batch_size, h, w, c)

    def apply(method):
        return lambda variables, *inputs: model.apply(variables, *inputs, method=method)

    def kernels(module, image):
        return module.kernels(image, mask)

    def down(module, x):
        return module.network.down(*multiscale_np.pad_to_multiple(x, 2 ** (len(module.widths) - 1))[:1])

    def up(module, features):
        return module.network.up(features)

    num_kernels = len(model.length_scales)
    x = _shape(b, h, w, c + 1 + num_kernels * (c + 1))
    features = jax.eval_shape(apply(down), variables, x)
    full = jax.eval_shape(apply(up), variables, features)

    def objective(module, x, base):
        outputs = [
            base + module.mean_head(x),
            *([module.scale_head(x)] if module.head.num_outputs > module.channels else []),
        ]
        completion = module.head(jnp.concatenate(outputs, axis=-1)[None].astype(jnp.float32))
        target = run.config.objective.target
        return module.head.terms(jnp.zeros(image.shape), mask, completion, target=target).reconstruction

    return [
        ("kernel interpolation", apply(kernels), (variables, image)),
        ("way down", apply(down), (variables, x)),
        ("way up", apply(up), (variables, features)),
        ("heads and objective", apply(objective), (variables, full, image)),
    ]


def _make_objective(run):
    mask = _draw_mask(run)
    image = jnp.zeros((*mask.shape[:3], run.image_shape[-1]))

    def objective(mean):
        targets, sigma = jnp.ones_like(mask), jnp.full_like(mean, 0.1)
        return objectives.gaussian_log_prob(image, mean, sigma, targets).mean()

    return "objective", objective, (_shape(run.config.objective.num_samples, *image.shape),)


def _measure_optimiser(case, params):
    tx = optimizer.make_optimizer(case.run.config.train)
    gradient = jax.tree.map(jnp.ones_like, params)

    def update(opt_state):
        return tx.update(gradient, opt_state, params)

    return timing.measure(update, tx.init(params), effort=case.effort)


def _measure_batches(case):
    run, num_images = case.run, case.effort.num_images
    list_indices, make_batch = dispatch.make_sampler(dispatch.make_streams(0), run.config, num_images)
    images = jnp.asarray(inputs.random_images(num_images, run.image_shape))

    def sample(number):
        return make_batch(images[list_indices(number)], number)

    return timing.measure(sample, jnp.int32(1), effort=case.effort)
