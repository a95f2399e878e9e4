"""IFANP on the embedded 8x8 digits: no download, 80 seconds on two CPU cores.

    python -m ifanp_jax.main --config=configs/digits_ifanp.py --workdir=runs/digits

Reaches 14.5 / 18.2 / 21.8 dB at 20 / 40 / 60 % observed, observed pixels kept. Trained on mixed contexts
(random pixels, halves, boxes), so that halves are completed as well as scattered pixels;
`--config.mask.kind=random` is the paper's protocol.
"""

from configs import default


def get_config():
    """Returns the configuration."""
    config = default.get_config()
    config.model.width = 32
    config.mask.kind = "mixed"
    config.train.num_steps = 1500
    config.train.learning_rate = 6e-3
    config.train.ema_decay = 0.99
    return config
