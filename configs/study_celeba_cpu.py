r"""The paper's study on CelebA 32x32 as far as two CPU cores come in about two hours.

    python -m ifanp_jax.main --mode=study --config=configs/study_celeba_cpu.py --workdir=runs/celeba_cpu \
        --config.data.source=arrays --config.data.dir=ARRAYS

`ARRAYS` holds `train.npy` and `val.npy`, uint8 (N, 32, 32, 3). One seed, 1,500 steps of 32 images per model.
"""

from ifanp_jax import presets


def get_config(study="study_celeba"):
    """Returns the configuration.

    Args:
      study: at the paper's scale, which is cut to one seed and 1,500 steps.
    """
    config = presets.load(study)
    config.study.seeds = (0,)
    config.study.fields.point_np.ANP.update(presets.ANP_FOR_TWO_CORES)
    config.train.update(
        num_steps=1500, batch_size=32, learning_rate=3e-3, ema_decay=0.99, checkpoint_every=100
    )
    config.evaluate.num_images = 500
    if study == "study_celeba":
        config.data.update(eval_split="val", max_train_images=0)
    return config
