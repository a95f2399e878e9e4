"""How each family of inpainters is trained against critics: one entry of `FAMILIES` each.

An entry says what a paper says: critics, losses, optimiser, and the defaults of `config.step`. It is found by
the name of the model's file. What all share is in `step.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ifanp_jax import errors, metrics
from ifanp_jax.data.sampling import Batch
from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import critics, holes, losses, style
from ifanp_jax.inpainters.base import Inpainting

Fields = Mapping[str, Any]
# Of every family; an entry gives values of its own, and may add fields.
COMMON_FIELDS = {
    "adversarial": "dcgan",  # of losses.KINDS
    "adversarial_weight": 0.0,  # of the generator's loss against all critics
    "num_critic_updates": 1,  # per update of the generator, each on images and masks of its own
    "learning_rate": 2e-4,  # of the generator, constant
    "critic_learning_rate": 2e-4,
    "critic_width": 64,  # channels of a critic's first layer
}
UNPENALISED = ("dcgan", "lsgan", "hinge", "none")  # for critics that normalise
DEEPFILL_WEIGHT = 1.2  # of L1 and AE
DEEPFILL_COARSE_WEIGHT = 1.2  # of the coarse stage in them, beside the refined one
CONTEXT_ENCODER_RING = 4 / 128  # width of the ring around the hole, as a fraction of the image's side


def _make_usual_optimizer(learning_rate: float) -> optax.GradientTransformation:
    """Adam as the adversarial papers take it."""
    return optax.adam(learning_rate, b1=0.5)


@dataclasses.dataclass(frozen=True)
class Critic:
    """A critic, and what it sees of an image.

    Attributes:
      network: Flax module, called as network(*seen, train=...) -> scores (B, ...).
      look: (x, start) -> what it sees of images in [-1, 1] or masks x (B, H, W, C); start is int32 (B, 2),
        top and left of the window around the hole.
    """

    network: nn.Module
    look: Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]]


@dataclasses.dataclass(frozen=True)
class Adversary:
    """How a family is trained.

    Attributes:
      fields: `config.step` and its defaults.
      make_critics: (model, fields, side of the images) -> critics by name.
      list_losses: (fields, answer, batch) -> the generator's losses by name without the adversarial one,
        float32 (B,) each, weighted.
      make_optimizer: learning rate -> the optimiser of either side.
      kinds: the adversarial losses that its critics allow.
      critic_loss_weight: of the critics' loss.
      is_real_elsewhere: whether the window of a real image is drawn anew, not that of the hole.
    """

    fields: Fields
    make_critics: Callable[[nn.Module, Fields, int], dict[str, Critic]]
    list_losses: Callable[[Fields, Inpainting, Batch], dict[str, jax.Array]]
    make_optimizer: Callable[[float], optax.GradientTransformation] = _make_usual_optimizer
    kinds: tuple[str, ...] = UNPENALISED
    critic_loss_weight: float = 1.0
    is_real_elsewhere: bool = False


def get(model: nn.Module) -> Adversary:
    """The entry of a model's family.

    Raises:
      UserError: when its family has none.
    """
    family = type(model).__module__.rpartition(".")[2]
    if family not in FAMILIES:
        raise UserError(
            f"{family}.{type(model).__name__} cannot be trained against critics; choose a model of "
            f"{', '.join(sorted(FAMILIES))}, or another config.step.name."
        )
    return FAMILIES[family]


def check(adversary: Adversary, fields: Fields) -> None:
    """Raises a UserError for the first field of `config.step` that cannot work."""
    errors.check_choice("config.step.adversarial", fields["adversarial"], adversary.kinds)
    for name, value in fields.items():
        if not isinstance(value, str):
            low = 1 if name in ("num_critic_updates", "critic_width") else 0
            high = 1 if name == "gamma" or name.endswith("_fraction") else None
            errors.check_range(f"config.step.{name}", value, low, high=high)


# What critics see.


def _see_image(x, start):
    del start
    return (x,)


def _see_window(x, start):
    return (holes.cut_window(x, start),)


def _see_both(x, start):
    return (x, holes.cut_window(x, start))


def _see_centre(x, start):
    del start
    h, w = x.shape[1:3]
    return (x[:, h // 4 : 3 * h // 4, w // 4 : 3 * w // 4],)


def _make_one_critic(name, network, look):
    """`make_critics` of a family with one critic."""
    return lambda model, fields, side: {
        name: Critic(network(fields["critic_width"], dtype=model.dtype), look)
    }


# DeepFill v1: discounted L1 and AE of both stages; WGAN-GP with two critics, five updates to one.


def _make_deepfill_critics(model, fields, side):
    num_layers = 3 if side <= 32 else 4  # up to 32 pixels little is left to stride over

    def make(factors, look):  # of each layer in units of the first one's
        widths = tuple(fields["critic_width"] * factor for factor in factors[:num_layers])
        return Critic(critics.ConvCritic(widths, dtype=model.dtype), look)

    return {"global": make((1, 2, 4, 4), _see_image), "local": make((1, 2, 4, 8), _see_window)}


def _list_deepfill_losses(fields, answer, batch):
    image = 2 * batch.image - 1

    def l1(where, weight):
        coarse, refined = (
            losses.weighted_l1_loss(x, image, where, weight) for x in (answer.coarse, answer.raw)
        )
        return DEEPFILL_WEIGHT * (DEEPFILL_COARSE_WEIGHT * coarse + fields["l1_weight"] * refined)

    # What is far inside the hole has more than one good answer.
    discount = jnp.power(jnp.float32(fields["gamma"]), losses.hole_distance(batch.mask))
    return {"l1": l1(~batch.mask, discount), "autoencoder": l1(batch.mask, jnp.ones(batch.mask.shape))}


# Context Encoder: squared error in the hole and a ring around it, and a critic of what is predicted.


def _make_context_encoder_critics(model, fields, side):
    look = _see_centre if model.region == "centre" else _see_image
    return _make_one_critic("region", critics.RegionCritic, look)(model, fields, side)


def _list_context_encoder_losses(fields, answer, batch):
    ring = round(CONTEXT_ENCODER_RING * min(batch.mask.shape[1:3]))
    error = losses.ringed_mse_loss(
        answer.raw, 2 * batch.image - 1, batch.mask, ring=ring, ring_weight=fields["ring_weight"]
    )
    return {"mse": fields["mse_weight"] * error}


# GLCIC: squared error in the hole, and one critic of the image and its window; Adadelta, three phases.


def _list_glcic_losses(fields, answer, batch):
    error = metrics.masked_mse((answer.raw + 1) / 2, batch.image, ~batch.mask)  # in [0, 1]
    return {"mse": fields["mse_weight"] * error}


# Shift-Net: L1 over the whole image, guidance of the decoder's features, and a critic of patches.


def _list_shift_net_losses(fields, answer, batch):
    l1 = jnp.mean(jnp.abs(answer.raw - (2 * batch.image - 1)), axis=(1, 2, 3))
    guidance = style.guidance_loss(*(answer.features[name] for name in ("decoder", "truth", "hole")))
    return {"l1": fields["l1_weight"] * l1, "guidance": fields["guidance_weight"] * guidance}


# Shift-Net with multi-scale attention: the same losses and style, and a critic of the whole composite.

_read_vgg16 = functools.cache(style.read_vgg16)


def _list_se_shift_net_losses(fields, answer, batch):
    # Random features are scaled to a mean square of 1 on the images of the batch.
    file = fields["vgg16_file"]
    features = _read_vgg16(file) if file else style.make_random_features(batch.image)
    loss = style.style_loss(features, answer.prediction, batch.image)
    return _list_shift_net_losses(fields, answer, batch) | {"style": fields["style_weight"] * loss}


_SHIFT_NET = Adversary(
    fields=dict(COMMON_FIELDS, adversarial_weight=0.002, l1_weight=1.0, guidance_weight=0.01),
    make_critics=_make_one_critic("patches", critics.PatchCritic, _see_image),
    list_losses=_list_shift_net_losses,
    critic_loss_weight=0.5,
)
FAMILIES = {
    "context_encoder": Adversary(
        # The ring is the known one beside the hole.
        fields=dict(
            COMMON_FIELDS, adversarial_weight=0.001, learning_rate=2e-3, mse_weight=0.999, ring_weight=10.0
        ),
        make_critics=_make_context_encoder_critics,
        list_losses=_list_context_encoder_losses,
    ),
    "deepfill": Adversary(
        fields=dict(
            COMMON_FIELDS,
            adversarial="wgan_gp",
            adversarial_weight=0.001,
            num_critic_updates=5,
            learning_rate=1e-4,
            critic_learning_rate=1e-4,
            l1_weight=1.0,  # of the refined stage's L1 and AE; 0 leaves the critics alone to lead it
            gamma=0.99,  # discount per pixel of distance from what is known
        ),
        make_critics=_make_deepfill_critics,
        list_losses=_list_deepfill_losses,
        make_optimizer=functools.partial(optax.adam, b1=0.5, b2=0.9),
        kinds=losses.KINDS,
    ),
    "glcic": Adversary(
        # Fractions of config.train.num_steps in which one side alone is trained: first the generator, then
        # the critic; 90,000 and 10,000 of 500,000 steps in the paper.
        fields=dict(
            COMMON_FIELDS,
            adversarial_weight=4e-4,
            learning_rate=1.0,
            critic_learning_rate=1.0,
            mse_weight=1.0,
            generator_only_fraction=0.18,
            critic_only_fraction=0.02,
        ),
        make_critics=_make_one_critic("both", critics.GlobalLocalCritic, _see_both),
        list_losses=_list_glcic_losses,
        make_optimizer=functools.partial(optax.adadelta, rho=0.9, eps=1e-6),
        is_real_elsewhere=True,
    ),
    "se_shift_net": dataclasses.replace(
        _SHIFT_NET,
        # A safetensors file of VGG16 for the features of the style loss; "" = random ones.
        fields=dict(_SHIFT_NET.fields, style_weight=10.0, vgg16_file=""),
        make_critics=_make_one_critic("whole", critics.RegionCritic, _see_image),
        list_losses=_list_se_shift_net_losses,
        critic_loss_weight=1.0,
    ),
    "shift_net": _SHIFT_NET,
}
