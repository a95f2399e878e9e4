"""What the inpainters share: their range, what they answer, and the composite that critics see.

At the border of every model images lie in [0, 1]; inside they lie in [-1, 1] and the hole is 0. Here
h = ~mask is the hole, x the truth and x' what a network put out; the composite is mask * x + h * x'.
"""

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.models.outputs import Completion, check_inputs


@flax.struct.dataclass
class Inpainting:
    """One answer to one context; what a model does not have is None.

    Attributes:
      prediction: float32 (B, H, W, C) in [0, 1], observed pixels included.
      raw: float32 (B, H, W, C), the last stage's output x' in the inside range: what losses are taken of.
      coarse: float32 (B, H, W, C), the first stage's output in the inside range, or None.
      attention: float32 (B, h, w, 2), offset (dy, dx) in cells of a grid (h, w) from each cell to the one
        that it copies most from, or None.
      features: named feature maps (B, h, w, N) that a loss is taken of, or None.
    """

    prediction: jax.Array
    raw: jax.Array
    coarse: jax.Array | None = None
    attention: jax.Array | None = None
    features: dict[str, jax.Array] | None = None

    # What an evaluation asks of every model: there is no likelihood and no latent variable.
    reconstruction = None
    kl = None
    kl_per_dim = None


def to_inside(image: jax.Array, mask: jax.Array) -> jax.Array:
    """Maps an image to the inside range and its hole to 0; hidden pixels are not read, even NaN.

    Args:
      image: float (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.

    Returns:
      float (B, H, W, C) in [-1, 1].
    """
    chex.assert_rank([image, mask], 4)
    chex.assert_type(mask, bool)
    return jnp.where(mask, 2 * image - 1, 0)


def from_inside(x: jax.Array) -> jax.Array:
    """Maps the inside range [-1, 1] to [0, 1] and clips; float32, any shape."""
    return jnp.clip((x.astype(jnp.float32) + 1) / 2, 0, 1)


def composite(image: jax.Array, mask: jax.Array, prediction: jax.Array) -> jax.Array:
    """The image where it is observed, the prediction in its hole; all in one range.

    Args:
      image: float (B, H, W, C); hidden pixels are not read.
      mask: bool (B, H, W, 1), True = observed.
      prediction: float (B, H, W, C).

    Returns:
      float (B, H, W, C).
    """
    chex.assert_rank([image, mask], 4)
    chex.assert_type(mask, bool)
    chex.assert_equal_shape([image, prediction])
    return jnp.where(mask, image, prediction)


def check_call(model: nn.Module, image: jax.Array, mask: jax.Array) -> None:
    """Asserts what every verb takes, and that the model takes images of this size.

    Args:
      model: an inpainter, with `channels` and `takes_size`.
      image: float (B, H, W, C).
      mask: bool (B, H, W, 1), True = observed.

    Raises:
      UserError: when the model does not take the size.
    """
    check_inputs(image, mask, model.channels)
    size = image.shape[1:3]
    if problem := model.takes_size(size, size):
        raise UserError(problem)


def with_hole(image: jax.Array, mask: jax.Array) -> jax.Array:
    """concat(image in the inside range, h), float32 (B, H, W, C + 1); hidden pixels are not read.

    Args:
      image: float (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
    """
    hole = (~mask).astype(jnp.float32)
    return jnp.concatenate([to_inside(image, mask).astype(jnp.float32), hole], axis=-1)


def mask_channels(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The networks' usual input: concat(x, ones, h), (B, H, W, C + 2), in the dtype of x.

    The ones tell a convolution with zero padding where the image ends.

    Args:
      x: float (B, H, W, C).
      mask: bool (B, H, W, 1), True = observed.
    """
    hole = (~mask).astype(x.dtype)
    return jnp.concatenate([x, jnp.ones_like(hole), hole], axis=-1)


def repeat_prediction(prediction: jax.Array, num_samples: int) -> Completion:
    """The answer of a model without a latent: the prediction (B, H, W, C) `num_samples` times."""
    samples = jnp.broadcast_to(prediction[None], (num_samples, *prediction.shape))
    return Completion(samples=samples, scale=None)
