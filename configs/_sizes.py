"""Sizes of the models: on one data set all have as many parameters as IFANP, within a fifth.

The variants of IFANP share its width, as in the paper's ablation, and are smaller where they lack a path;
MultiscaleNP is larger. A model that is not listed keeps its defaults.
"""

from ifanp_jax.inpainters.networks import context_encoder, glcic, shift_net

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
# Three attentions of every image with itself are most of a step's time on two CPU cores; this wide ANP is as
# large.
ANP_FOR_TWO_CORES = {"width": 76, "has_self_attention": False}
# A VAE decodes from a dense layer over its smallest grid, so its size depends on that of the images.
VAE = {
    8: {"width": 36, "num_halvings": 2, "latent_dim": 64},
    32: {"width": 20, "num_halvings": 3, "latent_dim": 64},
    64: {"width": 20, "num_halvings": 4, "latent_dim": 64},
}
MULTISCALE_NP = {8: {"widths": (32, 96), "down_blocks": (1, 2), "up_blocks": (1,)}}
# The inpainters' own small forms; those of DeepFill are variants with names.
INPAINTERS = {
    "glcic.GLCIC": glcic.SMALL_FORMS,
    "context_encoder.ContextEncoder": context_encoder.OTHER_FORMS,
    "shift_net.ShiftNet": shift_net.SMALL_FORMS,
    "se_shift_net.SEShiftNet": shift_net.SMALL_FORMS,
}


def get(model: str, image_size: int) -> dict:
    """The fields that make a model as large as the others.

    Args:
      model: its name.
      image_size: side of the images in pixels: 8, 64, or 32, which also serves 28.
    """
    if model in INPAINTERS:
        return dict(INPAINTERS[model].get(image_size, {}))
    if model.startswith("image_np."):
        return dict(IMAGE_NP)
    if model == "multiscale_np.MultiscaleNP":
        return dict(MULTISCALE_NP.get(image_size, {}))
    return dict(VAE[image_size] if model.startswith("vae.") else POINT_NP.get(model, {}))


def get_inpainter(model: str, image_size: int) -> dict:
    """The form of an inpainter for a size; {} for its published form, and for other models.

    Args:
      model: its name.
      image_size: side of the images in pixels: 32, 64, 128 or 256.
    """
    return dict(INPAINTERS.get(model, {}).get(image_size, {}))
