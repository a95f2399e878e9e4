"""What every model takes and answers."""

import chex
import flax.struct
import jax


@flax.struct.dataclass
class ElboTerms:
    """Per-image terms of the ELBO and the prediction behind them.

    Attributes:
      log_prob: float32 (B,), sum over target pixels and channels, mean over latent samples, in nats.
      kl: float32 (B,), KL(q(z | full image) || q(z | context)), sum over dimensions, in nats; of a VAE in
        training, KL(q(z | full image) || Normal(0, 1)).
      kl_per_dim: float32 (B, Z).
      prediction: float32 (B, H, W, C), mean over latent samples of the predicted mean.
      scale: float32 (B, H, W, C), the likelihood's standard deviation, mean over latent samples.
    """

    log_prob: jax.Array
    kl: jax.Array
    kl_per_dim: jax.Array
    prediction: jax.Array
    scale: jax.Array


@flax.struct.dataclass
class Completion:
    """Several answers to one context.

    Attributes:
      samples: float32 (S, B, H, W, C), the predicted mean for each draw of z, observed pixels included.
      scale: float32 (S, B, H, W, C), the likelihood's standard deviation around it.
    """

    samples: jax.Array
    scale: jax.Array


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
