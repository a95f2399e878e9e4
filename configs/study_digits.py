"""The paper's study on the embedded 8x8 digits: eleven models, minutes on two CPU cores.

    python -m ifanp_jax.main --mode=study --config=configs/study_digits.py --workdir=runs/study_digits

The paper's protocol: random contexts of 30 to 60 % in training, all pixels as target.
"""

import ml_collections

from configs import _sizes, digits
from ifanp_jax import models

VARIANTS = (
    "image_np.IFNP",
    "image_np.IFANP_LPA",
    "image_np.IFANP_SENet",
    "image_np.IFANP_GCA",
    "image_np.IFANP",
)
BASELINES = ("point_np.CNP", "point_np.LNP", "point_np.NP", "point_np.ANP", "vae.VAE", "vae.MaskedVAE")
COMMON_FIELDS = ("likelihood", "sigma", "sigma_floor", "scale_weight", "has_covariance", "compute_dtype")


def add_study(config, image_size, names=VARIANTS + BASELINES):
    """Adds the fields of a study, and leaves in `config.model` only what is common to its models.

    Args:
      config: of one model on the data of the study.
      image_size: side of the images in pixels, for `_sizes.get`.
      names: of the models.
    """
    config.mask.kind = "random"
    config.model = ml_collections.ConfigDict({name: config.model[name] for name in COMMON_FIELDS})
    config.study = ml_collections.ConfigDict()
    config.study.models = tuple(names)
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
        ("vae.MaskedVAE", "image_np.IFANP"),
    )
    # (model, ((fraction, raw PSNR in dB, KL), ...)) as the paper prints it
    config.study.published = ()
    # Each model's own fields by file and class; those of config.model are common to all.
    config.study.fields = ml_collections.ConfigDict()
    for model in config.study.models:
        file, name = model.split(".")
        own = models.get_config(model, **_sizes.get(model, image_size)).items()
        if file not in config.study.fields:
            config.study.fields[file] = ml_collections.ConfigDict()
        config.study.fields[file][name] = {
            field: value for field, value in own if field not in ("name", *COMMON_FIELDS)
        }
    return config


def get_config():
    """Returns the configuration."""
    return add_study(digits.get_config(), image_size=8)
