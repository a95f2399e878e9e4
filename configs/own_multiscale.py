r"""Our multi-scale neural process on images of your own, by our training.

    python -m ifanp_jax.main --config=configs/own_multiscale.py --workdir=runs/mine \
        --config.data.dir=PICTURES --config.data.image_size=32

`PICTURES` is a folder of pictures of any shapes, of which a tenth is held out. Nothing is cropped away: the
shorter side of each is brought to `image_size`, and the picture is cut into squares of that side. Without
`image_size` it is cut at its own size into squares of 64x64 pixels. For photographs see also
configs/photos_multiscale.py. `ifanp_jax.train` uses this file for arrays, which stay whole. Images are not
flipped: `--config.data.flips=horizontal` suits what has no left and right.
"""

from ifanp_jax import presets


def get_config(model="multiscale_np.MultiscaleNP"):
    """Returns the configuration."""
    config = presets.use_our_training(presets.default(model=model))
    if model == "multiscale_np.MultiscaleNP":
        config.model.update(widths=(32, 64, 128), down_blocks=(1, 2, 2), up_blocks=(1, 2))
    config.data.update(source="folder", flips="none", tile_size=64)
    config.train.update(num_steps=4000, batch_size=32, ema_decay=0.999)
    config.evaluate.num_images = 500
    return config
