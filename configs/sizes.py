"""Sizes of the models: those of one column have as many parameters as its IFANP, within a fifth.

The variants of IFANP share its width, as in the paper's ablation, and are smaller where they lack a path. A
model that is not listed keeps its defaults.
"""

from ifanp_jax import models

IMAGE_NP = {"width": 32}
POINT_NP = {
    "point_np.CNP": {"width": 124, "encoder_depth": 3, "decoder_depth": 4},
    "point_np.LNP": {"width": 108, "encoder_depth": 3, "decoder_depth": 4, "latent_dim": 64},
    "point_np.NP": {"width": 92, "encoder_depth": 3, "decoder_depth": 4, "latent_dim": 64},
    "point_np.ANP": {
        "width": 60,
        "encoder_depth": 3,
        "decoder_depth": 4,
        "latent_dim": 64,
        "num_heads": 4,
        "has_self_attention": True,
    },
}
# Three attentions of every image with itself take 20 s per step of 32 images of 32x32 on two CPU cores; this
# wide ANP is as large and has one.
ANP_FOR_TWO_CORES = {"width": 76, "has_self_attention": False}
# The grid on which a VAE decodes, so its size, depends on that of the images.
VAE = {
    8: {"width": 36, "num_halvings": 2, "latent_dim": 64},
    32: {"width": 20, "num_halvings": 3, "latent_dim": 64},
}


def get(model: str, image_size: int) -> dict:
    """The fields of a model that make it as large as the others.

    Args:
      model: its name.
      image_size: side of the images in pixels, 8 or 32 (which serves 28, too).
    """
    if model.startswith("image_np."):
        return IMAGE_NP
    return VAE[image_size] if model.startswith("vae.") else POINT_NP.get(model, {})


def set_model(config, model: str, image_size: int) -> None:
    """Sets `config.model` to a model of that size."""
    config.model = models.get_config(model, **get(model, image_size))
