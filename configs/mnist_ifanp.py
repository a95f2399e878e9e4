"""IFANP on MNIST 28x28 through TFDS.

    python -m ifanp_jax.main --config=configs/mnist_ifanp.py --config.data.dir=TFDS_DIR --workdir=runs/mnist

`TFDS_DIR` is the folder in which TFDS prepared `mnist`; empty = TFDS's own default. Two CPU cores make
about 126 images/s, so the whole of it takes 3 hours there; a run of 1,300 steps (14 minutes) reaches
18.1 / 23.4 / 27.4 dB at 20 / 40 / 60 % observed, observed pixels kept.
"""

from configs import default


def get_config():
    """Returns the configuration."""
    config = default.get_config()
    config.model.width = 32
    config.data.source = "tfds"
    config.data.name = "mnist"
    config.mask.kind = "mixed"
    config.train.num_steps = 20_000
    config.train.learning_rate = 4e-3
    config.train.ema_decay = 0.999
    config.train.validate_every = 1000
    config.evaluate.num_images = 1000
    return config
