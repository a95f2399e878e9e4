"""GLCIC: squared error in the hole, and one critic of the image and its window; Adadelta, three phases."""

import jax.numpy as jnp
import optax

from ifanp_jax import metrics
from ifanp_jax.inpainters import adversaries
from ifanp_jax.inpainters.patch_critics import GlobalLocalCritic


def make_critics(model, fields, size):
    """GLCIC's critic.

    Args:
      model: the generator.
      fields: of `config.step`.
      size: not used.
    """
    del size
    width, vector = fields["critic_width"], 16 * fields["critic_width"]
    network = GlobalLocalCritic(
        width, max_width=8 * width, vector=vector, dtype=jnp.dtype(model.compute_dtype)
    )

    def look(x, start):
        return (*adversaries.look_at_all(x, start), *adversaries.look_at_window(x, start))

    return {"both": adversaries.Critic(network, look)}


def list_losses(fields, answer, batch):
    """Squared error in the hole, of intensities in [0, 1]; float32 (B,).

    Args:
      fields: of `config.step`.
      answer: of the generator.
      batch: what it was given.
    """
    error = metrics.masked_mse((answer.raw + 1) / 2, batch.image, ~batch.mask)
    return {"mse": fields["mse_weight"] * error}


RECIPE = adversaries.Recipe(
    fields=adversaries.COMMON_FIELDS
    | {
        "adversarial_weight": 4e-4,
        "learning_rate": 1.0,
        "critic_learning_rate": 1.0,
        "mse_weight": 1.0,
        # shares of config.train.num_steps in which one side alone is trained: first the generator, then the
        # critic; 90,000 and 10,000 of 500,000 steps in the paper
        "generator_only_fraction": 0.18,
        "critic_only_fraction": 0.02,
    },
    kinds=("dcgan", "lsgan", "hinge", "none"),
    make_critics=make_critics,
    list_losses=list_losses,
    make_optimizer=lambda learning_rate: optax.adadelta(learning_rate, rho=0.9, eps=1e-6),
    is_real_elsewhere=True,
)
