r"""Our multi-scale neural process on CelebA 32x32, by our training.

    python -m ifanp_jax.main --config=configs/celeba_multiscale.py --workdir=runs/celeba_multiscale \
        --config.data.source=arrays --config.data.dir=ARRAYS

`ARRAYS` holds `train.npy` and `val.npy`, uint8 (N, 32, 32, 3); configs/celeba.py shows other ways. Another
model by the same training: `--config=configs/celeba_multiscale.py:image_np.IFANP`.
"""

from ifanp_jax import presets


def get_config(model="multiscale_np.MultiscaleNP"):
    """Returns the configuration."""
    config = presets.use_our_training(presets.load(f"celeba:{model}"))
    if model == "multiscale_np.MultiscaleNP":
        config.model.update(widths=(32, 64, 128, 192), down_blocks=(1, 1, 2, 2), up_blocks=(1, 1, 2))
        config.train.update(num_steps=8400, batch_size=64)
    else:
        config.train.update(num_steps=6000, batch_size=32)  # IFANP: a quarter of an hour of two CPU cores
        config.mask.shares.update(random=0.75, half=0.15, box=0.05, strokes=0.05)
    config.train.ema_decay = 0.999
    config.evaluate.num_images = 500
    return config
