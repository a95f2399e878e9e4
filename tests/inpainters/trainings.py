"""Tiny inpainters and their trainings: widths of a few channels, the smallest sides that they take."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from ifanp_jax.data.sampling import Batch
from ifanp_jax.training import runs
from tests import tiny

MODELS = {
    "deepfill.DeepFill64": {"width": 4},
    "glcic.GLCIC": {"width": 4, "dilations": (1, 2)},
    "context_encoder.ContextEncoder": {"widths": (4, 8), "bottleneck": 8},
    "shift_net.ShiftNet": {"width": 4, "max_width": 8, "shift_stride": 8},
    "se_shift_net.SEShiftNet": {"width": 4, "max_width": 8, "shift_stride": 8, "attention_grid": 16},
}
CHEAPEST = "context_encoder.ContextEncoder"  # and it has batch statistics
FIELDS = {
    "mask.kind": "inpainting",
    "step.critic_width": 4,
    "step.num_critic_updates": 1,
    "train.num_steps": 6,
    "train.batch_size": 4,
    "train.log_every": 1,
    "train.validate_every": 0,
    "train.checkpoint_every": 3,
    "train.ema_decay": 0.9,
}


def make_config(name=CHEAPEST, **overrides):
    config = default.get_config(name)
    config.model.update(MODELS[name])
    config.update_from_flattened_dict(FIELDS | overrides)
    return config


def image_shape(name=CHEAPEST):
    return (32, 32, 3) if "shift" in name else (16, 16, 3)


def dataset(name=CHEAPEST):
    return tiny.noise(shape=image_shape(name))


def draw_state(run, *, seed=0):
    """A state of normal numbers by NumPy, so that nothing is compiled; at step 0, second moments 0."""
    generator = np.random.default_rng(seed)

    def draw(path, x):
        names = [str(getattr(part, "name", getattr(part, "key", ""))) for part in path]
        if x.dtype != jnp.float32 or "opt_state" in names:
            return jnp.zeros(x.shape, x.dtype)
        if names[-1] in ("scale", "var"):
            return jnp.ones(x.shape)
        deviation = min(0.1, 1 / np.sqrt(np.prod(x.shape[:-1])))
        return jnp.asarray(generator.normal(0, deviation, x.shape), x.dtype)

    return jax.tree_util.tree_map_with_path(draw, runs.abstract_state(run))


def draw_batches(run, *, seed=0, size=2):
    generator, n = np.random.default_rng(seed), run.step.num_batches
    h, w, c = run.image_shape
    mask = np.ones((n, size, h, w, 1), bool)
    mask[:, :, h // 4 : 3 * h // 4, w // 4 : 3 * w // 4] = False
    return Batch(image=jnp.asarray(generator.random((n, size, h, w, c), np.float32)), mask=jnp.asarray(mask))


@functools.cache
def build(name, **overrides):
    """A run, its state and its compiled update."""
    run = runs.make(make_config(name, **overrides), image_shape(name))
    return run, draw_state(run), jax.jit(run.step.update)
