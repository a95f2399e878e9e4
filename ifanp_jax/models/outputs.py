"""What every model takes and answers."""

import chex
import flax.struct
import jax


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


def check_inputs(image: jax.Array, mask: jax.Array, channels: int) -> None:
    """Asserts rank, shape and dtype of what every verb takes.

    Args:
      image: float (B, H, W, C).
      mask: bool (B, H, W, 1), True = observed.
      channels: C that the model was made for.
    """
    chex.assert_rank([image, mask], 4)
    chex.assert_type(image, float)
    chex.assert_type(mask, bool)
    chex.assert_shape(image, (*mask.shape[:3], channels))
    chex.assert_shape(mask, (*image.shape[:3], 1))
