"""What the inpainters share: one base class, their inside range, and the composite that critics see.

At the border of every model images lie in [0, 1]; inside they lie in [-1, 1] and the hole is 0. Here
h = ~mask is the hole, x the truth and x' what a network put out; the composite is mask * x + h * x'.
"""

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.models import fields
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

    # An evaluation asks these of every model; here is no likelihood and no latent variable.
    reconstruction = None
    kl = None
    kl_per_dim = None


class Inpainter(nn.Module):
    """A network that completes each image in one pass and is trained against critics.

    A family gives `inpaint`, and says which sizes it takes and what they cost.

    Attributes:
      channels: C of the images.
      compute_dtype: "float32" or "bfloat16"; parameters and outputs are always float32.
    """

    step = "adversarial"  # the way of training
    needs_known_pixels = True

    channels: int
    compute_dtype: str = "float32"

    def __post_init__(self):
        """Refuses an unknown precision, and makes tuples of lists, as JSON has them: lists have no hash."""
        fields.check_choice(self, "compute_dtype", fields.COMPUTE_DTYPES)
        for name, value in list(vars(self).items()):
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        super().__post_init__()

    @property
    def dtype(self) -> jnp.dtype:
        """The precision of the network's computation."""
        return jnp.dtype(self.compute_dtype)

    def __call__(
        self,
        image: jax.Array,
        mask: jax.Array,
        *,
        train: bool,
        num_samples: int = 1,
        target: str = "all",
    ) -> Inpainting:
        """Completes each image.

        Args:
          image: float (B, H, W, C) in [0, 1]; the prediction never depends on hidden pixels.
          mask: bool (B, H, W, 1), True = observed.
          train: whether to normalise by the batch and to update "batch_stats", and to give what losses need.
          num_samples: of a latent variable, which there is not.
          target: pixels of a likelihood, which there is not.

        Raises:
          UserError: when the model does not take images of this size.
        """
        del num_samples, target
        check_inputs(image, mask, self.channels)
        size = image.shape[1:3]
        if problem := self.takes_size(size, size):
            raise UserError(problem)
        return self.inpaint(image, mask, train=train)

    def complete(self, image: jax.Array, mask: jax.Array, *, num_samples: int) -> Completion:
        """The prediction `num_samples` times.

        Args:
          image: float (B, H, W, C) in [0, 1]; hidden pixels are never read.
          mask: bool (B, H, W, 1), True = observed.
          num_samples: S.
        """
        prediction = self(image, mask, train=False).prediction
        return Completion(samples=jnp.broadcast_to(prediction[None], (num_samples, *prediction.shape)))

    def inpaint(self, image: jax.Array, mask: jax.Array, *, train: bool) -> Inpainting:
        """`__call__` after its checks."""
        raise NotImplementedError

    @property
    def size_multiple(self) -> int:
        """Pixels that both sides of an image must be a multiple of."""
        return 1

    def takes_size(self, size: tuple[int, int], trained_size: tuple[int, int]) -> str | None:
        """Why a picture cannot be taken, in one sentence, or None.

        Args:
          size: (H, W) of the picture, pixels.
          trained_size: (H, W) of the training.
        """
        del trained_size
        if all(side % self.size_multiple == 0 for side in size):
            return None
        return (
            f"{type(self).__name__} got {size[0]}x{size[1]} pixels and takes sides that are multiples of "
            f"{self.size_multiple}; crop or resize the pictures."
        )

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Memory that one picture of `size` pixels takes beside the parameters, in bytes, roughly."""
        raise NotImplementedError


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


def with_hole(image: jax.Array, mask: jax.Array) -> jax.Array:
    """concat(image in the inside range, h), float32 (B, H, W, C + 1); hidden pixels are not read.

    Args:
      image: float (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
    """
    hole = (~mask).astype(jnp.float32)
    return jnp.concatenate([to_inside(image, mask).astype(jnp.float32), hole], axis=-1)
