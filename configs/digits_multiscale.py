r"""Our multi-scale neural process on the 8x8 digits that scikit-learn carries, by our training.

    python -m ifanp_jax.main --config=configs/digits_multiscale.py --workdir=runs/digits_multiscale

Reaches 15.9 / 19.8 / 23.1 dB at 20 / 40 / 60 % observed, observed pixels kept; IFANP by
configs/digits_ifanp.py 14.5 / 18.2 / 21.8 dB.
"""

from configs import _recipe, digits


def get_config(model="multiscale_np.MultiscaleNP"):
    """Returns the configuration."""
    config = _recipe.apply(digits.get_config(model))
    config.data.flips = "none"  # a mirrored digit is another sign
    config.evaluate.rounds_images = 32  # a first look should not take long
    return config
