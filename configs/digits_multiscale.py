r"""Our multi-scale neural process on the 8x8 digits that scikit-learn carries, by our training.

    python -m ifanp_jax.main --config=configs/digits_multiscale.py --workdir=runs/digits_multiscale

Reaches 15.7 / 19.5 / 22.9 dB at 20 / 40 / 60 % observed, observed pixels kept; IFANP by
configs/digits_ifanp.py 14.3 / 18.0 / 21.6 dB.
"""

from ifanp_jax import presets


def get_config(model="multiscale_np.MultiscaleNP"):
    """Returns the configuration."""
    config = presets.use_our_training(presets.load(f"digits:{model}"))
    config.data.flips = "none"  # a mirrored digit is another sign
    if model == "multiscale_np.MultiscaleNP":
        config.train.num_steps = 1200
    config.evaluate.rounds_images = 32  # a first look should not take long
    return config
