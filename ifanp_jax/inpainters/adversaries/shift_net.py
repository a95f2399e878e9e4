"""Shift-Net: L1 over the whole image, guidance of the decoder's features, and a critic of patches."""

import jax.numpy as jnp

from ifanp_jax.inpainters import adversaries, style
from ifanp_jax.inpainters.patch_critics import PatchCritic


def make_critics(model, fields, size):
    """The critic of patches.

    Args:
      model: the generator.
      fields: of `config.step`.
      size: not used.
    """
    del size
    network = PatchCritic(fields["critic_width"], dtype=jnp.dtype(model.compute_dtype))
    return {"patches": adversaries.Critic(network, adversaries.look_at_all)}


def list_losses(fields, answer, batch):
    """L1 over the whole image and guidance; float32 (B,) each.

    Args:
      fields: of `config.step`.
      answer: of the generator.
      batch: what it was given.
    """
    l1 = jnp.mean(jnp.abs(answer.raw - (2 * batch.image - 1)), axis=(1, 2, 3))
    guidance = style.guidance_loss(*(answer.features[name] for name in ("decoder", "truth", "hole")))
    return {"l1": fields["l1_weight"] * l1, "guidance": fields["guidance_weight"] * guidance}


RECIPE = adversaries.Recipe(
    fields=adversaries.COMMON_FIELDS
    | {"adversarial_weight": 0.002, "l1_weight": 1.0, "guidance_weight": 0.01},
    kinds=("dcgan", "lsgan", "hinge", "none"),
    make_critics=make_critics,
    list_losses=list_losses,
    make_optimizer=adversaries.make_adam(),
    critic_loss_weight=0.5,
)
