"""The contract of a model: what it takes and answers, and every question that the package asks of one."""

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ifanp_jax.errors import UserError
from ifanp_jax.models import fields

COMPUTE_DTYPES = ("float32", "bfloat16")


@flax.struct.dataclass
class Terms:
    """Per-image terms of an objective and the prediction behind them; None where a model has no such thing.

    Attributes:
      reconstruction: float32 (B,), what a training maximises besides the KL, mean over latent samples, in
        nats per image. It is `log_prob` for every likelihood but "per_image".
      prediction: float32 (B, H, W, C), mean over latent samples of the predicted mean.
      log_prob: float32 (B,), log-likelihood, sum over target pixels and channels, mean over latent samples,
        in nats; None without a scale.
      kl: float32 (B,), KL(q(z | full image) || q(z | context)), sum over dimensions, in nats; of a VAE in
        training, KL(q(z | full image) || Normal(0, 1)); None without a latent variable.
      kl_per_dim: float32 (B, Z).
      scale: float32 (B, H, W, C), the likelihood's standard deviation, mean over latent samples.
    """

    reconstruction: jax.Array
    prediction: jax.Array
    log_prob: jax.Array | None = None
    kl: jax.Array | None = None
    kl_per_dim: jax.Array | None = None
    scale: jax.Array | None = None


@flax.struct.dataclass
class Completion:
    """Several answers to one context.

    Attributes:
      samples: float32 (S, B, H, W, C), the predicted mean for each draw of z, observed pixels included.
      scale: float32 (S, B, H, W, C), the standard deviation around it; None for a model without one.
      cholesky: float32 (S, B, H, W, C, C), lower-triangular factor of the covariance of a pixel's channels;
        None where they are independent.
      distribution: of a pixel around its mean with that scale, "normal" or "student_t" (4 degrees of
        freedom, `objectives.student_t`).
    """

    samples: jax.Array
    scale: jax.Array | None = None
    cholesky: jax.Array | None = None
    distribution: str = flax.struct.field(pytree_node=False, default="normal")


class ImageModel(nn.Module, kw_only=True):
    """A network that completes images, and what the package asks of it.

    A model writes `__call__`, `complete` and `completion_bytes`. Everything else has an answer here, which a
    model replaces where it is another. Hyper-parameters are fields with defaults.

    Attributes:
      channels: C of the images.
      compute_dtype: "float32" or "bfloat16"; parameters, likelihoods and answers are always float32.
    """

    step = "elbo"  # the way of training, a file of `training/steps`
    needs_known_pixels = False  # whether it refuses a picture of which no pixel is observed
    is_finished_by_blending = False  # whether an evaluation also shows its answers blended by OpenCV
    distribution = "normal"  # of a pixel around the mean, see `Completion.distribution`
    temperature = 1.0  # factor of the noise of samples by rounds
    has_samples_by_rounds = False  # whether its scale is good enough to draw samples by rounds unasked
    cell = 1  # of tiles: a tile begins at multiples of so many pixels

    channels: int
    compute_dtype: str = "float32"

    def __post_init__(self):
        """Checks the fields; a model with fields of its own checks those first, then calls this."""
        fields.check_choice(self, "compute_dtype", COMPUTE_DTYPES)
        for name, value in list(vars(self).items()):
            if isinstance(value, list):  # as from JSON; a list has no hash
                object.__setattr__(self, name, tuple(value))
        super().__post_init__()

    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool, num_samples: int = 1, target: str = "all"
    ) -> Terms:
        """Returns the terms of the objective.

        Args:
          image: float (B, H, W, C) in [0, 1], the full image.
          mask: bool (B, H, W, 1), True = observed.
          train: whether this is a training: it may read hidden pixels, from the rng stream `sample` it draws
            noise for each image, and it updates statistics of the batch.
          num_samples: K, latent samples per image.
          target: "all" or "unobserved" pixels in `reconstruction` and `log_prob`.
        """
        raise NotImplementedError

    def complete(self, image: jax.Array, mask: jax.Array, *, num_samples: int) -> Completion:
        """Completes each image from its observed pixels; a latent variable needs the rng stream `sample`.

        A model with a `tile_margin` also takes `inside`, bool (1 or B, H, W, 1) or None, False in padding
        around the pictures: one that begins at multiples of `cell` gets the answer that it gets alone.

        Args:
          image: float (B, H, W, C) in [0, 1]; unobserved pixels are never read.
          mask: bool (B, H, W, 1), True = observed.
          num_samples: S; without a latent variable all samples are equal.
        """
        raise NotImplementedError

    def completion_bytes(self, size: tuple[int, int]) -> int:
        """Memory that one sample of one picture of `size` (H, W) takes beside the parameters, about."""
        raise NotImplementedError

    def takes_size(self, size: tuple[int, int], trained_size: tuple[int, int]) -> str | None:
        """Why a picture of `size` (H, W) cannot be completed, in one sentence; None where it can be."""
        del size, trained_size
        return None

    def tile_margin(self) -> int | None:
        """How far around a tile the network looks, in pixels; None for a model that takes no tiles."""
        return None

    def check_inputs(self, image: jax.Array, mask: jax.Array) -> None:
        """Asserts rank, shape and dtype of what every verb takes: an image and its mask.

        Raises:
          UserError: when the model does not take images of this size.
        """
        chex.assert_rank([image, mask], 4)
        chex.assert_type(image, float)
        chex.assert_type(mask, bool)
        chex.assert_shape(image, (*mask.shape[:3], self.channels))
        chex.assert_shape(mask, (*image.shape[:3], 1))
        size = image.shape[1:3]
        if problem := self.takes_size(size, size):
            raise UserError(problem)

    @property
    def dtype(self) -> jnp.dtype:
        """`compute_dtype` as layers take it."""
        return jnp.dtype(self.compute_dtype)
