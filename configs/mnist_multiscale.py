r"""Our multi-scale neural process on MNIST 28x28, by our training.

python -m ifanp_jax.main --config=configs/mnist_multiscale.py --workdir=runs/mnist_multiscale \
        --config.data.dir=TFDS_DIR
"""

from ifanp_jax import presets


def get_config(model="multiscale_np.MultiscaleNP"):
    """Returns the configuration."""
    config = presets.use_our_training(presets.load(f"mnist:{model}"))
    if model == "multiscale_np.MultiscaleNP":
        config.model.update(widths=(32, 64, 128), down_blocks=(1, 1, 2), up_blocks=(1, 1))
    config.data.flips = "none"  # a mirrored digit is another sign
    config.train.update(num_steps=3200, batch_size=64, ema_decay=0.999)
    return config
