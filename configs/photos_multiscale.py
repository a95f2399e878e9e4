r"""Our multi-scale neural process on photographs, by our training: completes pictures of any size.

    python -m ifanp_jax.main --config=configs/photos_multiscale.py --workdir=runs/photos \
        --config.data.dir=PHOTOS --config.mask.folder=MASKS --config.mask.shares.film=0.12

`PHOTOS` holds the folders `train` and `val` with pictures of at least 128x128 pixels. Each is cut into tiles
of 128x128; a training sees random crops of 64x64 of them at half to full size in all symmetries, an
evaluation whole tiles, at first the middle one of each picture. `MASKS` holds mask pictures of damaged film,
white = intact; without them leave out the last two fields.
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
        random_scale=(0.5, 1.0),  # the least one takes a whole tile
        flips="all",
    )
    config.mask.fraction = (0.05, 0.95)
    config.mask.shares.update(random=0.5, half=0.0, box=0.08, strokes=0.2, text=0.05, lattice=0.05)
    config.train.update(num_steps=8000, batch_size=16, ema_decay=0.999, validate_every=1000)
    config.evaluate.update(num_images=100, classical_images=100, halves=False, batch_size=10, figure_images=4)
    config.evaluate.rounds_images = 16
    return config
