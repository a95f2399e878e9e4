"""What the inpainters share: their answer, one base class, and the range inside of them.

At the border of every model images lie in [0, 1]; inside they lie in [-1, 1] and the hole is 0. Here
h = ~mask is the hole, x the truth and x' what a network put out; the composite is mask * x + h * x'.
"""

import chex
import flax.struct
import jax
import jax.numpy as jnp

from ifanp_jax.models.base import Completion, ImageModel


@flax.struct.dataclass
class Inpainting:
    """One answer to one context; what a model does not have is None.

    Attributes:
      prediction: float32 (B, H, W, C) in [0, 1], observed pixels included.
      raw: float32 (B, H, W, C), the last stage's output x' in the inside range: what losses are taken of.
      coarse: float32 (B, H, W, C), the first stage's output in the inside range.
      attention: float32 (B, h, w, 2), offset (dy, dx) in cells of a grid (h, w) from each cell to the one
        that it copies most from.
      features: named feature maps (B, h, w, N) that a loss is taken of.
    """

    prediction: jax.Array
    raw: jax.Array
    coarse: jax.Array | None = None
    attention: jax.Array | None = None
    features: dict[str, jax.Array] | None = None

    # An evaluation asks these of every model; here is no likelihood and no latent variable.
    reconstruction = kl = kl_per_dim = None


class Inpainter(ImageModel):
    """A network that completes each image in one pass and is trained against critics.

    A family gives `inpaint`, and says which sizes it takes and what they cost.
    """

    step = "adversarial"
    needs_known_pixels = True
    size_multiple = 1  # pixels that both sides of an image must be a multiple of

    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool, num_samples: int = 1, target: str = "all"
    ) -> Inpainting:
        """Completes each image, by no latent variable."""
        del num_samples, target
        self.check_inputs(image, mask)
        return self.inpaint(image, mask, train=train)

    def complete(self, image: jax.Array, mask: jax.Array, *, num_samples: int) -> Completion:
        """The prediction `num_samples` times."""
        prediction = self(image, mask, train=False).prediction
        return Completion(samples=jnp.broadcast_to(prediction[None], (num_samples, *prediction.shape)))

    def inpaint(self, image: jax.Array, mask: jax.Array, *, train: bool) -> Inpainting:
        """`__call__` after its checks."""
        raise NotImplementedError

    def takes_size(self, size: tuple[int, int], trained_size: tuple[int, int]) -> str | None:
        """Both sides must be multiples of `size_multiple`."""
        del trained_size
        if all(side % self.size_multiple == 0 for side in size):
            return None
        return (
            f"{type(self).__name__} got {size[0]}x{size[1]} pixels and takes sides that are multiples of "
            f"{self.size_multiple}; crop or resize the pictures."
        )


def to_inside(image: jax.Array, mask: jax.Array) -> jax.Array:
    """Maps images (B, H, W, C) to the inside range, holes to 0; hidden pixels are not read, even NaN."""
    chex.assert_rank([image, mask], 4)
    chex.assert_type(mask, bool)
    return jnp.where(mask, 2 * image - 1, 0)


def from_inside(raw: jax.Array) -> jax.Array:
    """Maps the inside range [-1, 1] to [0, 1] and clips."""
    return jnp.clip((raw + 1) / 2, 0, 1)


def with_hole(image: jax.Array, mask: jax.Array) -> jax.Array:
    """concat(`to_inside`, h), float32 (B, H, W, C + 1)."""
    hole = (~mask).astype(jnp.float32)
    return jnp.concatenate([to_inside(image, mask).astype(jnp.float32), hole], axis=-1)
