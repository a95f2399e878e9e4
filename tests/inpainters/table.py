"""The one table of all inpainters: tiny networks, what they refuse, and one compiled program of each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax import models

SIZE = 16
DEEPFILL = {"width": 4, "dilations": (1, 2, 1, 2)}  # cells of 4 pixels
SHIFT = {"width": 4, "max_width": 8, "shift_stride": 4}
ENCODER = {"widths": (4, 8), "bottleneck": 8}
# Sizes that are no multiples, no squares or no powers of two.
UNEVEN, OTHER = [(18, 16), (16, 17)], [(24, 24), (16, 32), (4, 4)]
# Name, fields, and sizes that it refuses.
MODELS = {
    "deepfill": ("deepfill.DeepFill", DEEPFILL, [(12, 16), (16, 20)]),
    "deepfill_fraction": ("deepfill.DeepFill32", {"width": 4, "validity": "fraction"}, [(17, 16)]),
    "deepfill_flow": ("deepfill.DeepFill64", {"width": 4, "attention": "appearance_flow"}, UNEVEN),
    "deepfill_none": ("deepfill.DeepFill", DEEPFILL | {"attention": "none"}, UNEVEN),
    "shift_net": ("shift_net.ShiftNet", SHIFT, OTHER),
    "se_shift_net": ("se_shift_net.SEShiftNet", SHIFT | {"hole_rule": "share"}, OTHER),
    "glcic": ("glcic.GLCIC", {"width": 4, "dilations": (2,)}, UNEVEN),
    "glcic_one_stride": ("glcic.GLCIC", {"width": 4, "num_strided": 1, "dilations": ()}, [(17, 16)]),
    "context_encoder": ("context_encoder.ContextEncoder", ENCODER, [(32, 32), (16, 8)]),
    "context_encoder_centre": ("context_encoder.ContextEncoder", ENCODER | {"region": "centre"}, [(8, 8)]),
}


def make_masks():
    """Full, empty, a box in each corner, one hidden pixel, one hidden pixel in every cell."""
    masks = np.ones((8, SIZE, SIZE, 1), bool)
    masks[1] = False
    masks[2, :8, :8] = masks[3, :8, 8:] = masks[4, 8:, :8] = masks[5, 8:, 8:] = False
    masks[6, 5, 9] = False
    masks[7, ::4, ::4] = False
    return masks


MASKS = make_masks()
IMAGES = np.random.default_rng(0).random((8, SIZE, SIZE, 3), np.float32)


def make(name, **fields):
    model, own, _ = MODELS[name]
    return models.get({"name": model} | own | fields, channels=3)


def abstract_variables(model, size):
    image, mask = jnp.zeros((1, *size, 3)), jnp.zeros((1, *size, 1), bool)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image, mask)


@functools.cache
def variables_of(name):
    """Random variables, in NumPy: an `init` would be compiled."""
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            values = generator.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            values = generator.uniform(0.5, 1.5, leaf.shape) if path[-1].key in ("scale", "var") else 0.1
        return np.broadcast_to(np.float32(values), leaf.shape)

    return jax.tree_util.tree_map_with_path(draw, abstract_variables(make(name), (SIZE, SIZE)))


@functools.cache
def _compiled(name):
    return jax.jit(functools.partial(make(name).apply, train=False))


def answer(name, image=IMAGES, mask=MASKS, *, variables=None):
    """The answer at test time in NumPy, by one program of each row."""
    return jax.device_get(_compiled(name)(variables or variables_of(name), image, mask))
