"""Any model on the embedded 8x8 digits: no download, a minute or two on two CPU cores.

    python -m ifanp_jax.main --config=configs/digits.py:point_np.ANP --workdir=runs/digits_anp

Trained on mixed contexts (random pixels, halves, boxes), so that halves are completed as well as scattered
pixels; `--config.mask.kind=random` is the paper's protocol. What each model reaches under that stands in
docs/experiments/study_digits/study.md.
"""

from ifanp_jax import presets


def get_config(model="image_np.IFANP"):
    """Returns the configuration."""
    config = presets.default(model=model)
    config.model.update(presets.size_of(model, 8))
    config.mask.kind = "mixed"
    config.train.num_steps = 1500
    config.train.learning_rate = 6e-3
    config.train.ema_decay = 0.99
    return config
