"""Tiny inpainters and their trainings: widths of a few channels, the smallest sides that they take."""

import functools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from ifanp_jax.data.sampling import Batch
from ifanp_jax.inpainters import base
from ifanp_jax.inpainters.layers.convolutions import batch_norm
from ifanp_jax.training import runs, steps
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


class Generator(base.Inpainter):
    """Two convolutions that answer in two stages."""

    region = "image"

    @nn.compact
    def inpaint(self, image, mask, *, train):
        x = nn.Conv(4, (3, 3), strides=2, dtype=self.dtype)(base.with_hole(image, mask))
        x = nn.relu(batch_norm(self.dtype, train=train)(x)).astype(jnp.float32)
        outputs = nn.Conv(2 * self.channels, (3, 3))(x.repeat(2, axis=1).repeat(2, axis=2))
        coarse, raw = jnp.split(jnp.tanh(outputs), 2, axis=-1)
        return base.Inpainting(prediction=base.from_inside(raw), raw=raw, coarse=coarse)


def make_run(name, **overrides):
    """A training of the small generator in the way of a model's family: its step and the shape of images."""
    config = make_config(name, **overrides)
    family = type(
        f"Generator{name.rpartition('.')[2]}", (Generator,), {"__module__": name.rpartition(".")[0]}
    )
    model = family(channels=3, compute_dtype=config.model.compute_dtype)
    return types.SimpleNamespace(step=steps.get(config, model), image_shape=image_shape(name))


def draw_state(run, *, seed=0):
    """A state of normal numbers by NumPy, so that nothing is compiled; at step 0, second moments 0."""
    generator = np.random.default_rng(seed)

    def draw(path, x):
        names = [str(getattr(part, "name", getattr(part, "key", ""))) for part in path]
        if x.dtype != jnp.float32 or "opt_state" in names:
            return np.zeros(x.shape, x.dtype)
        if names[-1] in ("scale", "var"):
            return np.ones(x.shape, x.dtype)
        deviation = min(0.1, 1 / np.sqrt(np.prod(x.shape[:-1])))
        return generator.normal(0, deviation, x.shape).astype(x.dtype)

    return jax.tree_util.tree_map_with_path(draw, runs.abstract_state(run))


def draw_batches(run, *, seed=0, size=2):
    generator, n = np.random.default_rng(seed), run.step.num_batches
    h, w, c = run.image_shape
    mask = np.ones((n, size, h, w, 1), bool)
    mask[:, :, h // 4 : 3 * h // 4, w // 4 : 3 * w // 4] = False
    return Batch(image=generator.random((n, size, h, w, c), np.float32), mask=mask)


@functools.cache
def build(name, **overrides):
    """The small generator's run, its state and its compiled update."""
    run = make_run(name, **overrides)
    return run, draw_state(run), jax.jit(run.step.update)


@functools.cache
def build_whole(name):
    """The same of the model itself."""
    run = runs.make(make_config(name), image_shape(name))
    return run, draw_state(run), jax.jit(run.step.update)
