"""The paper's study on the embedded 8x8 digits: ten models, minutes on two CPU cores.

    python -m ifanp_jax.main --mode=study --config=configs/study_digits.py --workdir=runs/study_digits

The paper's protocol: random contexts of 30 to 60 % in training, all pixels as target.
"""

import ml_collections

from configs import digits_ifanp

VARIANTS = (
    "image_np.IFNP",
    "image_np.IFANP_LPA",
    "image_np.IFANP_SENet",
    "image_np.IFANP_GCA",
    "image_np.IFANP",
)
BASELINES = ("point_np.CNP", "point_np.LNP", "point_np.NP", "point_np.ANP", "vae.VAE")


def add_study(config, *, vae):
    """Adds the fields of a study; widths give every model about as many parameters as IFANP.

    `vae` are the VAE's width and number of halvings, which depend on the size of the images.
    """
    config.mask.kind = "random"
    config.study = ml_collections.ConfigDict()
    config.study.models = VARIANTS + BASELINES
    config.study.seeds = (0,)
    config.study.variants = VARIANTS  # of figures C and D
    config.study.figure_a = ("vae.VAE", "point_np.NP", "image_np.IFNP", "image_np.IFANP")
    config.study.figure_b = ("image_np.IFNP", "image_np.IFANP")
    # Pairs (lower, higher) whose differences are shown: the order of the paper's table, and the baselines.
    config.study.order = (
        ("image_np.IFNP", "image_np.IFANP_LPA"),
        ("image_np.IFNP", "image_np.IFANP_SENet"),
        ("image_np.IFANP_LPA", "image_np.IFANP_GCA"),
        ("image_np.IFANP_SENet", "image_np.IFANP_GCA"),
        ("image_np.IFANP_GCA", "image_np.IFANP"),
        ("point_np.ANP", "image_np.IFANP"),
        ("vae.VAE", "image_np.IFANP"),
    )
    config.study.published = ()  # (model, ((fraction, raw PSNR in dB), ...)) as the paper prints it
    # Fields of the models of other families, in place of config.model's.
    config.study.fields = ml_collections.ConfigDict()
    config.study.fields.point_np = {
        "CNP": {"width": 124, "encoder_depth": 3, "decoder_depth": 4},
        "LNP": {"width": 108, "encoder_depth": 3, "decoder_depth": 4, "latent_dim": 64},
        "NP": {"width": 92, "encoder_depth": 3, "decoder_depth": 4, "latent_dim": 64},
        "ANP": {
            "width": 60,
            "encoder_depth": 3,
            "decoder_depth": 4,
            "latent_dim": 64,
            "num_heads": 4,
            "has_self_attention": True,
        },
    }
    config.study.fields.vae = {"VAE": {"latent_dim": 64} | vae}
    return config


def get_config():
    """Returns the configuration."""
    return add_study(digits_ifanp.get_config(), vae={"width": 36, "num_halvings": 2})
