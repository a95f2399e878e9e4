"""IFANP on MNIST 28x28 through TFDS.

    python -m ifanp_jax.main --config=configs/mnist_ifanp.py --config.data.dir=TFDS_DIR --workdir=runs/mnist

`TFDS_DIR` is the folder in which TFDS prepared `mnist`; empty = TFDS's own default. Two CPU cores make
about 126 images/s, so the whole of it takes 3 hours there; a run of 1,300 steps (14 minutes) reaches
18.1 / 23.4 / 27.4 dB at 20 / 40 / 60 % observed, observed pixels kept. The other models:
`--config=configs/mnist.py:point_np.NP`.
"""

from ifanp_jax import presets


def get_config():
    """Returns the configuration."""
    return presets.load("mnist:image_np.IFANP")
