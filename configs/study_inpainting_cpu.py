r"""Inpainters, neural processes and classical methods over the same holes of 64x64 faces, on two CPU cores.

    python -m ifanp_jax.main --mode=study --config=configs/study_inpainting_cpu.py --workdir=runs/inpainting \
        --config.data.dir=FACES

`FACES` holds the folders `train` and `val`. The inpainters have small forms, and each model has so many steps
as one core takes in about 20 minutes. One of its runs by itself, which the study takes up as its own:

    python -m ifanp_jax.main --config=configs/study_inpainting_cpu.py:glcic.GLCIC \
        --workdir=runs/inpainting/glcic.GLCIC_seed0 --config.data.dir=FACES
"""

from ifanp_jax import presets
from ifanp_jax.study import one_run

# What differs from one family to another: steps that one core takes in about 20 minutes, and what two cores
# need to come far in it: higher learning rates, critics of half or a quarter of their width; DeepFill at half
# of its own, with one update of its critics per step instead of five.
OF_FAMILY = {
    "context_encoder": {"train": {"num_steps": 2000}},
    "shift_net": {"train": {"num_steps": 800}, "step": {"critic_width": 32, "learning_rate": 5e-4}},
    "se_shift_net": {"train": {"num_steps": 650}, "step": {"critic_width": 32, "learning_rate": 5e-4}},
    "glcic": {"train": {"num_steps": 600}, "step": {"critic_width": 32}},
    "deepfill": {
        "train": {"num_steps": 500},
        "model": {"width": 16},
        "step": {"critic_width": 16, "num_critic_updates": 1, "learning_rate": 5e-4},
    },
    "multiscale_np": {"train": {"num_steps": 400}},
    "image_np": {"train": {"num_steps": 400}},
}
MODELS = (
    "context_encoder.ContextEncoder",
    "shift_net.ShiftNet",
    "se_shift_net.SEShiftNet",
    "glcic.GLCIC",
    "deepfill.DeepFill64",
    "deepfill.DeepFill64-no_attention",
    "multiscale_np.MultiscaleNP",
    "image_np.IFANP",
)


def get_config(model=""):
    """Returns the configuration of the study, or of its first run of one model.

    Args:
      model: of `MODELS`; "" = the study.
    """
    config = presets.load("study_inpainting:64")
    config.study.models = MODELS
    config.study.changes.update(OF_FAMILY)
    config.evaluate.update(num_images=1000, classical_images=100)
    return one_run.config_of(config, model, config.study.seeds[0]) if model else config
