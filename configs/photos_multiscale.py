r"""Our multi-scale neural process on photographs, by our training: completes pictures of any size.

    python -m ifanp_jax.main --config=configs/photos_multiscale.py --workdir=runs/photos \
        --config.data.dir=PHOTOS

`PHOTOS` holds the folders `train` and `val` with pictures of at least 128x128 pixels. Each is cut into tiles
of 128x128; a training sees random crops of 64x64 of them in all symmetries, an evaluation whole tiles,
at first the middle one of each picture.
"""

from ifanp_jax import presets


def get_config(model="multiscale_np.MultiscaleNP"):
    """Returns the configuration."""
    config = presets.use_our_training(presets.default(model=model))
    if model == "multiscale_np.MultiscaleNP":
        config.model.update(widths=(32, 64, 128, 192), down_blocks=(1, 1, 2, 2), up_blocks=(1, 1, 2))
        config.model.temperature = 1.1  # else samples are smoother than photographs
    config.data.update(
        source="folder",
        name="photos",
        channels=3,
        eval_split="val",
        tile_size=128,
        random_crop=64,
        flips="all",
    )
    config.mask.fraction = (0.05, 0.95)
    config.mask.shares.update(random=0.65, half=0.0, box=0.1, strokes=0.25)
    config.train.update(num_steps=8000, batch_size=16, ema_decay=0.999, validate_every=1000)
    config.evaluate.update(num_images=100, classical_images=100, halves=False, batch_size=10, figure_images=4)
    config.evaluate.rounds_images = 16
    return config
