"""Feature functions, and the losses on features: style and guidance.

A feature function takes images, float (B, H, W, C) in [0, 1], and gives a list of maps (B, h, w, N), coarser
and coarser; it is a pytree. Two are made here: random convolutions that need no file, and the first three
stages of VGG16 (Simonyan and Zisserman, 2015) from a file that the user has. What a table calls VGG16 must be
the latter.
"""

import pathlib
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax

from ifanp_jax.errors import UserError

FeatureFunction = Callable[[jax.Array], list[jax.Array]]

RANDOM_WIDTHS = (16, 32, 64)
RANDOM_SEED = 0  # fixed, so that all runs mean the same loss
VGG16_STAGES = {64: (0, 2), 128: (5, 7), 256: (10, 12, 14)}  # numbers of the layers in the file, by width
VGG16_MEAN = (0.485, 0.456, 0.406)
VGG16_DEVIATION = (0.229, 0.224, 0.225)


def gram(features: jax.Array) -> jax.Array:
    """Gram matrices of a map: sum over positions of f f^T, divided by N h w; float32 (B, N, N)."""
    chex.assert_rank(features, 4)
    _, h, w, n = features.shape
    features = features.astype(jnp.float32)
    product = jnp.einsum("bhwn,bhwm->bnm", features, features, precision=jax.lax.Precision.HIGHEST)
    return product / (n * h * w)


def style_loss(features: FeatureFunction, prediction: jax.Array, image: jax.Array) -> jax.Array:
    """Mean over layers of the mean absolute difference of the Gram matrices; no gradient to the image."""
    chex.assert_equal_shape([prediction, image])
    targets = features(jax.lax.stop_gradient(image))
    differences = [
        jnp.mean(jnp.abs(gram(ours) - gram(target)), axis=(1, 2))
        for ours, target in zip(features(prediction), targets, strict=True)
    ]
    return jnp.mean(jnp.stack(differences), axis=0)


def guidance_loss(decoder: jax.Array, truth: jax.Array, hole: jax.Array) -> jax.Array:
    """Shift-Net's guidance: mean over all elements of (h_cell (F(masked) - G(truth)))^2; no gradient to G.

    F and G are maps (B, h, w, N) of the decoder and of the whole image; `hole` (B, h, w, 1) is 1 where a cell
    is to be filled.
    """
    chex.assert_rank([decoder, truth, hole], 4)
    chex.assert_equal_shape([decoder, truth])
    difference = (decoder - jax.lax.stop_gradient(truth)).astype(jnp.float32)
    # A choice, not a product: what the truth holds at known cells never counts, even NaN.
    return jnp.mean(jnp.square(jnp.where(hole > 0, hole * difference, 0)), axis=(1, 2, 3))


def make_random_features(images: jax.Array, *, widths: tuple[int, ...] = RANDOM_WIDTHS) -> FeatureFunction:
    """Makes frozen random features: stages of two 3x3 He-normal ReLU convolutions and an average pool.

    Each stage has so many channels, and is scaled to a mean square of 1 on `images`.
    """
    chex.assert_rank(images, 4)
    key, kernels, width = jax.random.key(RANDOM_SEED), [], images.shape[-1]
    draw = jax.nn.initializers.he_normal()
    for stage, out_width in enumerate(widths):
        first, second = jax.random.split(jax.random.fold_in(key, stage))
        kernels.append([draw(first, (3, 3, width, out_width)), draw(second, (3, 3, out_width, out_width))])
        width = out_width
    ones = jnp.ones(len(widths))
    maps = jax.jit(_apply_random)(kernels, ones, images)
    # Without biases a map is as many times larger as its stages' scales say.
    squares = jnp.stack([jnp.mean(jnp.square(one)) for one in maps])
    return jax.tree_util.Partial(_apply_random, kernels, jax.lax.rsqrt(jnp.maximum(squares, 1e-12)))


def _apply_random(kernels, scales, images):
    x, maps = images.astype(jnp.float32), []
    for stage, scale in zip(kernels, scales, strict=True):
        for kernel in stage:
            x = jax.nn.relu(_convolve(x, kernel))
        x = _pool(x, jax.lax.add) / 4
        maps.append(scale * x)
    return maps


def read_vgg16(path: str | pathlib.Path) -> FeatureFunction:
    """Makes the features after the first three pools of VGG16, of three channels or of one, which it repeats.

    Args:
      path: a safetensors file with PyTorch's `features.{i}.weight` (O, I, 3, 3) and `features.{i}.bias` (O,),
        i = 0 2, 5 7, 10 12 14; others are ignored.

    Raises:
      UserError: no such file, no safetensors, a name is missing or a shape is wrong.
    """
    path, stages, in_width = pathlib.Path(path).expanduser(), [], 3
    try:
        with safetensors.safe_open(path, framework="flax") as file:
            for width, layers in VGG16_STAGES.items():
                stages.append([])
                for layer in layers:
                    kernel = _read_tensor(file, path, f"features.{layer}.weight", (width, in_width, 3, 3))
                    bias = _read_tensor(file, path, f"features.{layer}.bias", (width,))
                    stages[-1].append((kernel.transpose(2, 3, 1, 0), bias))
                    in_width = width
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; give a safetensors file of VGG16's weights.") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}); save the weights again.") from None
    return jax.tree_util.Partial(_apply_vgg16, stages)


def _read_tensor(file, path, name, shape):
    if name not in file.keys():
        raise UserError(f"{path} has no tensor {name}; give VGG16's weights with PyTorch's names.")
    tensor = file.get_tensor(name)
    if tensor.shape != shape:
        raise UserError(f"{name} in {path} has shape {tensor.shape}; VGG16's has {shape}.")
    return tensor.astype(jnp.float32)


def _apply_vgg16(stages, images):
    chex.assert_rank(images, 4)
    if images.shape[-1] not in (1, 3):
        raise UserError(
            f"VGG16 got images of {images.shape[-1]} channels and takes 3, or 1, which it repeats."
        )
    x = jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:3], 3))
    mean, deviation = np.float32([[[VGG16_MEAN]]]), np.float32([[[VGG16_DEVIATION]]])
    x, maps = (x - mean) / deviation, []
    for stage in stages:
        for kernel, bias in stage:
            x = jax.nn.relu(_convolve(x, kernel) + bias[None, None, None])
        x = _pool(x, jax.lax.max)
        maps.append(x)
    return maps


def _convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _pool(x, operation):
    # Over 2x2 cells; an odd last row or column is left out.
    start = 0.0 if operation is jax.lax.add else -jnp.inf
    return jax.lax.reduce_window(x, start, operation, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
