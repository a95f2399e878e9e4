r"""Any model on faces of 64x64 pixels, and the inpainters in their small forms.

    python -m ifanp_jax.main --config=configs/faces64.py:deepfill.DeepFill64 --workdir=runs/deepfill \
        --config.data.dir=FACES

`FACES` holds the folders `train` and `val`; pictures of another size are cropped to their central square and
resized. Holes are DeepFill's rectangles, free-form strokes, centre squares and halves;
`--config.mask.hole_shares.box=0` leaves one kind out.
"""

from ifanp_jax import presets


def get_config(model="deepfill.DeepFill64"):
    """Returns the configuration."""
    config = presets.default(model=model)
    config.model.update(presets.size_of(model, 64))
    config.data.update(source="folder", name="faces64", image_size=64, channels=3, eval_split="val")
    config.data.flips = "horizontal"
    config.mask.kind = "inpainting"
    config.mask.hole_shares.update(box=0.4, strokes=0.2, centre=0.3, half=0.1)
    config.train.update(num_steps=20_000, batch_size=16, ema_decay=0.999, validate_every=1000)
    # Tested over holes and halves; the classical methods take a second per image.
    config.evaluate.update(num_images=1000, num_samples=1, fractions=(), classical_images=500)
    return config
