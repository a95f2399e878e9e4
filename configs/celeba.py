r"""Any model on CelebA 32x32: the central 148x148 pixels of the aligned faces, area-averaged.

From a folder of the aligned 178x218 JPEGs with the official partition:

    python -m ifanp_jax.main --config=configs/celeba.py:point_np.ANP --workdir=runs/celeba_anp \
        --config.data.dir=img_align_celeba --config.data.partition_file=list_eval_partition.txt

From arrays `train.npy` and `val.npy` (N, 32, 32, 3), or through TFDS:

    ... --config.data.source=arrays --config.data.dir=ARRAYS
    ... --config.data.source=tfds --config.data.dir=TFDS_DIR --config.data.eval_split=validation

The whole of it is for an accelerator; `--config.train.num_steps=1500` is a first look. On two CPU cores
point_np.ANP is the slowest by far, but with `--config.model.has_self_attention=False
--config.model.width=76`. What each model reaches in 1,500 steps of 32 images stands in
docs/experiments/study_celeba/study.md.
"""

from ifanp_jax import presets


def get_config(model="image_np.IFANP"):
    """Returns the configuration."""
    config = presets.default(model=model)
    config.model.update(presets.size_of(model, 32))
    config.data.source = "folder"
    config.data.name = "celeb_a"
    config.data.image_size = 32
    config.data.channels = 3
    config.data.crop_size = 148
    config.data.eval_split = "val"
    config.mask.kind = "mixed"
    config.train.num_steps = 50_000
    config.train.learning_rate = 4e-3
    config.train.ema_decay = 0.999
    config.train.validate_every = 1000
    config.evaluate.num_images = 1000
    return config
