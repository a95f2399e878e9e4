r"""The paper's study on CelebA 32x32 as far as two CPU cores come in about two hours.

    python -m ifanp_jax.main --mode=study --config=configs/study_celeba_cpu.py --workdir=runs/celeba_cpu \
        --config.data.source=arrays --config.data.dir=ARRAYS

`ARRAYS` holds `train.npy` and `val.npy`, uint8 (N, 32, 32, 3). One seed, 1,500 steps of 32 images per model.
"""

from configs import _sizes, study_celeba


def for_two_cores(config):
    """Cuts a study at the paper's scale to one seed and 1,500 steps."""
    config.study.seeds = (0,)
    config.study.fields.point_np.ANP.update(_sizes.ANP_FOR_TWO_CORES)
    config.train.num_steps = 1500
    config.train.batch_size = 32
    config.train.learning_rate = 3e-3
    config.train.ema_decay = 0.99
    config.train.checkpoint_every = 100
    config.evaluate.num_images = 500
    return config


def get_config():
    """Returns the configuration."""
    config = for_two_cores(study_celeba.get_config())
    config.data.eval_split = "val"
    config.data.max_train_images = 0
    return config
