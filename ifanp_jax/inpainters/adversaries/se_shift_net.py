"""Shift-Net with multi-scale attention: Shift-Net's losses and style, and Context Encoder's critic."""

import dataclasses
import functools

import jax.numpy as jnp

from ifanp_jax.inpainters import adversaries, style
from ifanp_jax.inpainters.adversaries import shift_net
from ifanp_jax.inpainters.patch_critics import RegionCritic

read_vgg16 = functools.cache(style.read_vgg16)


def make_critics(model, fields, size):
    """The critic of the whole composite.

    Args:
      model: the generator.
      fields: of `config.step`.
      size: not used.
    """
    del size
    width = fields["critic_width"]
    network = RegionCritic(width, max_width=8 * width, dtype=jnp.dtype(model.compute_dtype))
    return {"whole": adversaries.Critic(network, adversaries.look_at_all)}


def list_losses(fields, answer, batch):
    """Shift-Net's losses, and style; float32 (B,) each.

    Random features are scaled to a mean square of 1 on the images of the batch.

    Args:
      fields: of `config.step`.
      answer: of the generator.
      batch: what it was given.
    """
    file = fields["vgg16_file"]
    features = read_vgg16(file) if file else style.make_random_features(batch.image)
    loss = style.style_loss(features, answer.prediction, batch.image)
    return shift_net.list_losses(fields, answer, batch) | {"style": fields["style_weight"] * loss}


RECIPE = dataclasses.replace(
    shift_net.RECIPE,
    fields=shift_net.RECIPE.fields
    | {
        "style_weight": 10.0,
        "vgg16_file": "",  # safetensors file of VGG16 for the features of the style loss; "" = random ones
    },
    make_critics=make_critics,
    critic_loss_weight=1.0,
)
