r"""The paper's study on MNIST 28x28, at the paper's scale: for an accelerator.

    python -m ifanp_jax.main --mode=study --config=configs/study_mnist.py --config.data.dir=TFDS_DIR \
        --workdir=runs/study_mnist

60,000 training and 5,000 test images, three seeds.
"""

from ifanp_jax import presets


def get_config():
    """Returns the configuration."""
    config = presets.load("study_digits:mnist")
    config.study.seeds = (0, 1, 2)
    config.evaluate.num_images = config.evaluate.classical_images = 5000
    return config
