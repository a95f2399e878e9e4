"""The one table of all models; a new family adds its rows."""

import dataclasses
import functools

import flax.linen as nn
import jax

from ifanp_jax import models
from tests import helpers

SHAPE = (4, 5, 1)  # of the images
NUM_SAMPLES = 2


@dataclasses.dataclass(frozen=True)
class Row:
    """What is true of one model.

    Attributes:
      num_parameters: of the tiny model on images of SHAPE, counted by hand.
      fields: of the tiny model.
      variants: further fields, each with other parameters or another gradient.
      latent_dim: Z; 0 without a latent variable.
      takes_any_size: whether it completes images of another size than it was trained on.
      trains_on_hidden: whether a training reads unobserved pixels to predict (by z alone, never by a path
        that a test has, too).
    """

    num_parameters: int
    fields: dict
    variants: tuple[dict, ...] = ({},)
    latent_dim: int = 4
    takes_any_size: bool = True
    trains_on_hidden: bool = True


PER_IMAGE = {"likelihood": "per_image", "has_covariance": True, "channels": 3}

IMAGE_NP = {"width": 8, "latent_dim": 4, "encoder_depth": 1, "decoder_depth": 1, "likelihood": "per_pixel"}
POINT_NP = {
    "width": 8,
    "latent_dim": 4,
    "encoder_depth": 2,
    "decoder_depth": 2,
    "num_heads": 2,
    "likelihood": "per_pixel",
}
VAE = {"width": 4, "latent_dim": 4, "likelihood": "per_pixel"}
MULTISCALE = {
    "widths": (4, 6),
    "down_blocks": (1, 1),
    "up_blocks": (1,),
    "likelihood": "per_pixel",
    "has_covariance": False,
}

# They answer otherwise and take few sizes: `tests/inpainters`.
INPAINTERS = (
    "context_encoder.ContextEncoder",
    "deepfill.DeepFill",
    "deepfill.DeepFill32",
    "deepfill.DeepFill64",
    "glcic.GLCIC",
    "se_shift_net.SEShiftNet",
    "shift_net.ShiftNet",
)
MODELS = {
    # Encoder 616, encoder 3 144, decoder 658; squeeze-and-excitation 42; the deterministic path adds 616 of
    # encoder 2, theta 168 and the decoder's 64 weights of R_pred.
    "image_np.IFNP": Row(1418, IMAGE_NP, ({"likelihood": "learned"}, PER_IMAGE)),
    "image_np.IFANP_LPA": Row(1418, IMAGE_NP, ({"lpa_learned_scale": True},)),
    "image_np.IFANP_SENet": Row(1460, IMAGE_NP, ({"likelihood": "fixed"},)),
    "image_np.IFANP_GCA": Row(
        2266, IMAGE_NP, ({"gca_heads": 2, "gca_blocks": 2, "gca_embedding": "linear"},)
    ),
    "image_np.IFANP": Row(2266, IMAGE_NP, ({"compute_dtype": "bfloat16"},)),
    # 4 length scales; 10 inputs (image, mask, 4 values, 4 confidences) to 4 channels 44, a block of them 296;
    # 4 * 4 to 6 channels 102, a block 660; back to 4 * 4 112, a block 296; two heads of 5.
    "multiscale_np.MultiscaleNP": Row(
        4 + 44 + 296 + 102 + 660 + 112 + 296 + 2 * 5,
        MULTISCALE,
        ({}, PER_IMAGE, {"compute_dtype": "bfloat16"}),
        latent_dim=0,
        trains_on_hidden=False,
    ),
    # An encoder 3-8-8: 32 + 72 = 104; r to z 8-8-8: 72 + 72 = 144. Decoder: x 2 * 8 + 8 = 24, hidden 72, out
    # 8 * 2 + 2 = 18, so 114; r adds 8 * 8 = 64, z adds 4 * 8 = 32. An attention: 3 * 64 without biases and 72
    # = 264; the positions' encoder 2-8-8: 24 + 72 = 96.
    "point_np.CNP": Row(104 + 114 + 64, POINT_NP, ({}, PER_IMAGE), latent_dim=0, trains_on_hidden=False),
    "point_np.LNP": Row(104 + 144 + 114 + 32, POINT_NP, ({"likelihood": "learned"},)),
    "point_np.NP": Row(2 * 104 + 144 + 114 + 64 + 32, POINT_NP, ({"likelihood": "fixed"},)),
    "point_np.ANP": Row(
        2 * 104 + 144 + 114 + 64 + 32 + 3 * 264 + 96, POINT_NP, ({}, {"compute_dtype": "bfloat16"})
    ),
    # Before z ceil(4 / 4) * ceil(5 / 4) = 2 positions of 4 channels: encoder 40 + 2 * 148, to z 8 * 8 + 8,
    # from z 4 * 8 + 8, transposed 2 * 260, to the image 74; the mask adds 9 * 4 weights.
    "vae.VAE": Row(
        336 + 72 + 40 + 520 + 74, VAE, ({}, {"likelihood": "learned"}, PER_IMAGE), takes_any_size=False
    ),
    "vae.MaskedVAE": Row(
        336 + 72 + 40 + 520 + 74 + 36,
        VAE,
        ({}, {"compute_dtype": "bfloat16"}),
        takes_any_size=False,
        trains_on_hidden=False,
    ),
}
# The cheapest, with a latent variable where there is one.
ONE_PER_FAMILY = ("image_np.IFNP", "multiscale_np.MultiscaleNP", "point_np.LNP", "vae.MaskedVAE")


def make_model(name: str, **fields) -> nn.Module:
    """The tiny model of a row, with other fields where given; `channels` among them."""
    fields = MODELS[name].fields | fields
    channels = fields.pop("channels", SHAPE[-1])
    return models.get({"name": name} | fields, channels=channels)


@functools.cache
def build(name: str):
    """The variables of a row's model and its compiled answers at test time: (terms, completion)."""
    model = make_model(name)
    variables = helpers.random_variables(model, SHAPE)

    @jax.jit
    def answer(variables, image, mask, key):
        apply = functools.partial(model.apply, variables, image, mask, rngs={"sample": key})
        return apply(train=False, num_samples=NUM_SAMPLES), apply(num_samples=NUM_SAMPLES, method="complete")

    return variables, functools.partial(answer, variables)


def build_training(name: str, **fields):
    """The variables of a row's model and the compiled (gradient of the loss, terms of a training)."""
    return _build_training(name, tuple(fields.items()))


@functools.cache
def _build_training(name, fields):
    model = make_model(name, **dict(fields))

    @jax.jit
    def gradient_and_terms(variables, image, mask, key):
        def loss(variables):
            call = {"train": True, "num_samples": NUM_SAMPLES, "rngs": {"sample": key}}
            terms = model.apply(variables, image, mask, **call)
            kl = 0 if terms.kl is None else terms.kl
            return (kl - terms.reconstruction).mean(), terms

        return jax.grad(loss, has_aux=True)(variables)

    variables = helpers.random_variables(model, (*SHAPE[:2], model.channels))
    return variables, functools.partial(gradient_and_terms, variables)
