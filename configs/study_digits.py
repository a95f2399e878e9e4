"""The paper's study on the embedded 8x8 digits: eleven models, minutes on two CPU cores.

    python -m ifanp_jax.main --mode=study --config=configs/study_digits.py --workdir=runs/study_digits

The paper's protocol: random contexts of 30 to 60 % in training, all pixels as target.
"""

from ifanp_jax import presets

VARIANTS = (
    "image_np.IFNP",
    "image_np.IFANP_LPA",
    "image_np.IFANP_SENet",
    "image_np.IFANP_GCA",
    "image_np.IFANP",
)
BASELINES = ("point_np.CNP", "point_np.LNP", "point_np.NP", "point_np.ANP", "vae.VAE", "vae.MaskedVAE")
COMMON_FIELDS = ("likelihood", "sigma", "sigma_floor", "scale_weight", "has_covariance", "compute_dtype")
# The order of the paper's table, and the baselines.
ORDER = (
    ("image_np.IFNP", "image_np.IFANP_LPA"),
    ("image_np.IFNP", "image_np.IFANP_SENet"),
    ("image_np.IFANP_LPA", "image_np.IFANP_GCA"),
    ("image_np.IFANP_SENet", "image_np.IFANP_GCA"),
    ("image_np.IFANP_GCA", "image_np.IFANP"),
    ("point_np.ANP", "image_np.IFANP"),
    ("vae.VAE", "image_np.IFANP"),
    ("vae.MaskedVAE", "image_np.IFANP"),
)


def get_config(data="digits"):
    """Returns the configuration.

    Args:
      data: a shipped configuration; "digits", "mnist" or "celeba" have sizes of the models.
    """
    config = presets.load(data)
    config.mask.kind = "random"
    image_size = {"digits": 8}.get(data, 32)
    return presets.add_study(
        config,
        VARIANTS + BASELINES,
        lambda name: presets.size_of(name, image_size),
        common=COMMON_FIELDS,
        order=ORDER,
        variants=VARIANTS,
        figure_a=("vae.VAE", "point_np.NP", "image_np.IFNP", "image_np.IFANP"),
        figure_b=("image_np.IFNP", "image_np.IFANP"),
        published=(),
    )
