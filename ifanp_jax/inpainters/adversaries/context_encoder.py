"""Context Encoder: squared error in the hole and a ring around it, and a critic of what is predicted."""

import jax.numpy as jnp

from ifanp_jax.inpainters import adversaries, losses
from ifanp_jax.inpainters.patch_critics import RegionCritic

RING = 4 / 128  # width of the ring as a share of the image's side


def make_critics(model, fields, size):
    """The critic of the predicted region.

    Args:
      model: the generator.
      fields: of `config.step`.
      size: not used.
    """
    del size
    width = fields["critic_width"]
    network = RegionCritic(width, max_width=8 * width, dtype=jnp.dtype(model.compute_dtype))

    def look_at_centre(x, start):
        del start
        h, w = x.shape[1:3]
        return (x[:, h // 4 : 3 * h // 4, w // 4 : 3 * w // 4],)

    look = look_at_centre if model.region == "centre" else adversaries.look_at_all
    return {"region": adversaries.Critic(network, look)}


def list_losses(fields, answer, batch):
    """Squared error in the hole and in a ring around it, which weighs more; float32 (B,).

    Args:
      fields: of `config.step`.
      answer: of the generator.
      batch: what it was given.
    """
    ring = round(RING * min(batch.mask.shape[1:3]))
    error = losses.ringed_mse_loss(
        answer.raw, 2 * batch.image - 1, batch.mask, ring=ring, ring_weight=fields["ring_weight"]
    )
    return {"mse": fields["mse_weight"] * error}


RECIPE = adversaries.Recipe(
    fields=adversaries.COMMON_FIELDS
    | {
        "adversarial_weight": 0.001,
        "learning_rate": 2e-3,
        "critic_learning_rate": 2e-4,
        "mse_weight": 0.999,
        "ring_weight": 10.0,  # of the known ring beside the hole
    },
    kinds=("dcgan", "lsgan", "hinge", "none"),
    make_critics=make_critics,
    list_losses=list_losses,
    make_optimizer=adversaries.make_adam(),
)
