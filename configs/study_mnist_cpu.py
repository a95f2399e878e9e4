r"""The paper's study on MNIST 28x28 as far as two CPU cores come in about an hour and a half.

    python -m ifanp_jax.main --mode=study --config=configs/study_mnist_cpu.py --workdir=runs/study_mnist \
        --config.data.dir=TFDS_DIR

One seed, 1,500 steps of 32 images per model; the first 500 test images.
"""

from ifanp_jax import presets


def get_config():
    """Returns the configuration."""
    return presets.load("study_celeba_cpu:study_mnist")
