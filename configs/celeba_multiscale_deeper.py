r"""The multi-scale model with more blocks on CelebA 32x32, from a trained one with less.

    python -m ifanp_jax.main --config=configs/celeba_multiscale_deeper.py --workdir=runs/celeba_deeper \
        --config.data.source=arrays --config.data.dir=ARRAYS --config.train.init_from=runs/celeba_multiscale

A new block is the identity at first, so the training goes on from what configs/celeba_multiscale.py reached.
"""

from configs import celeba_multiscale


def get_config():
    """Returns the configuration."""
    config = celeba_multiscale.get_config()
    config.model.update(down_blocks=(1, 2, 4, 3), up_blocks=(1, 2, 4))
    config.mask.shares.update(random=0.78, half=0.14, box=0.04, strokes=0.04)
    config.train.update(num_steps=3800, batch_size=32, learning_rate=4e-3)
    return config
