r"""Any model on MNIST 28x28 through TFDS.

    python -m ifanp_jax.main --config=configs/mnist.py:point_np.NP --config.data.dir=TFDS_DIR \
        --workdir=runs/mnist_np

`TFDS_DIR` is the folder in which TFDS prepared `mnist`; empty = TFDS's own default. The whole of it takes
hours on two CPU cores, minutes on an accelerator; `--config.train.num_steps=1500` is a first look. What each
model reaches in so many steps of 32 images stands in docs/experiments/study_mnist/study.md.
"""

from ifanp_jax import presets


def get_config(model="image_np.IFANP"):
    """Returns the configuration."""
    config = presets.default(model=model)
    config.model.update(presets.size_of(model, 32))
    config.data.source = "tfds"
    config.data.name = "mnist"
    config.mask.kind = "mixed"
    config.train.num_steps = 20_000
    config.train.learning_rate = 4e-3
    config.train.ema_decay = 0.999
    config.train.validate_every = 1000
    config.evaluate.num_images = 1000
    return config
