"""DeepFill v1: discounted L1 and AE of both stages; WGAN-GP with two critics, five updates to one."""

import jax.numpy as jnp

from ifanp_jax.inpainters import adversaries, critics, losses


def make_critics(model, fields, size):
    """DeepFill's critics of the image and of the window around the hole.

    Args:
      model: the generator.
      fields: of `config.step`.
      size: (H, W) of the images.
    """
    networks = critics.deepfill_critics(
        min(size), width=fields["critic_width"], dtype=jnp.dtype(model.compute_dtype)
    )
    looks = {"global": adversaries.look_at_all, "local": adversaries.look_at_window}
    return {name: adversaries.Critic(network, looks[name]) for name, network in networks.items()}


def list_losses(fields, answer, batch):
    """Discounted L1 in the hole, and the autoencoder's L1 outside it; of both stages, float32 (B,) each.

    Args:
      fields: of `config.step`.
      answer: of the generator.
      batch: what it was given.
    """
    image, mask, l1_weight = 2 * batch.image - 1, batch.mask, fields["l1_weight"]
    weight = losses.discount(losses.hole_distance(mask), gamma=fields["gamma"])
    stages = (answer.raw, answer.coarse, image, mask)
    return {
        "l1": losses.discounted_l1_loss(*stages, weight, l1_weight=l1_weight),
        "autoencoder": losses.autoencoder_loss(*stages, l1_weight=l1_weight),
    }


RECIPE = adversaries.Recipe(
    fields=adversaries.COMMON_FIELDS
    | {
        "adversarial": "wgan_gp",
        "adversarial_weight": losses.ADVERSARIAL_WEIGHT,
        "num_critic_updates": 5,
        "learning_rate": 1e-4,
        "critic_learning_rate": 1e-4,
        "l1_weight": 1.0,  # of the refined stage's L1 and AE; 0 leaves the critics alone to lead it
        "gamma": 0.99,  # discount per pixel of distance from what is known
    },
    kinds=losses.KINDS,
    make_critics=make_critics,
    list_losses=list_losses,
    make_optimizer=adversaries.make_adam(b2=0.9),
)
