r"""Inpainters, neural processes and classical methods over the same holes at 256x256: for an accelerator.

    python -m ifanp_jax.main --mode=study --config=configs/study_inpainting.py --workdir=runs/inpainting \
        --config.data.dir=PICTURES

`PICTURES` holds the folders `train` and `val`; pictures are cropped to their central square and resized. The
inpainters have their published forms. It was not run yet. On two CPU cores: `study_inpainting_cpu`.
"""

import ml_collections

from configs import _recipe, _sizes, faces64
from ifanp_jax import models

INPAINTERS = (
    "context_encoder.ContextEncoder",
    "glcic.GLCIC",
    "shift_net.ShiftNet",
    "se_shift_net.SEShiftNet",
    "deepfill.DeepFill",
)
NEURAL_PROCESSES = ("multiscale_np.MultiscaleNP", "image_np.IFANP")
COMMON_FIELDS = ("compute_dtype",)
# What a name may end with, as in "glcic.GLCIC-no_critics".
CHANGES = {
    "no_attention": {"model": {"attention": "none"}},
    "appearance_flow": {"model": {"attention": "appearance_flow"}},
    "spatial_transformer": {"model": {"attention": "spatial_transformer"}},
    "no_critics": {"step": {"adversarial": "none"}},
}


def add_study(config, names, sizes_of):
    """Adds the fields of a study over holes, and leaves in `config.model` what is common to its models.

    Args:
      config: as `_recipe.apply` makes it, which concerns the neural processes alone.
      names: of the models; a change of `CHANGES` may follow a name after a "-".
      sizes_of: name of a model -> its own fields.
    """
    plain = tuple(dict.fromkeys(name.partition("-")[0] for name in names))
    config.model = ml_collections.ConfigDict({name: config.model[name] for name in COMMON_FIELDS})
    config.step = ml_collections.ConfigDict({"name": ""})
    config.study = ml_collections.ConfigDict()
    config.study.models = tuple(names)
    config.study.seeds = (0,)
    config.study.changes = ml_collections.ConfigDict(CHANGES)
    # Pairs (lower, higher) whose differences are shown: the orders that the papers claim.
    deepfill = next(name for name in plain if name.startswith("deepfill."))
    config.study.order = (
        ("context_encoder.ContextEncoder", "shift_net.ShiftNet"),
        ("shift_net.ShiftNet", "se_shift_net.SEShiftNet"),
        (f"{deepfill}-no_attention", deepfill),
        (f"{deepfill}-appearance_flow", deepfill),
        (f"{deepfill}-spatial_transformer", deepfill),
        (f"{deepfill}-no_critics", deepfill),
        ("glcic.GLCIC-no_critics", "glcic.GLCIC"),
        ("image_np.IFANP", "multiscale_np.MultiscaleNP"),
    )
    config.study.fields = ml_collections.ConfigDict()
    for name in plain:
        family, variant = name.split(".")
        own = models.get_config(name, **sizes_of(name)).items()
        if family not in config.study.fields:
            config.study.fields[family] = ml_collections.ConfigDict()
        config.study.fields[family][variant] = {
            field: value for field, value in own if field not in ("name", *COMMON_FIELDS)
        }
    return config


def over_holes(config):
    """Our training of the neural processes, with the inpainters' holes instead of its own contexts."""
    mask = config.mask.copy_and_resolve_references()
    evaluate = config.evaluate.copy_and_resolve_references()
    model = config.model.copy_and_resolve_references()
    config.model = models.get_config("image_np.IFANP")
    config = _recipe.apply(config)
    config.model = model
    config.mask, config.evaluate = mask, evaluate
    config.evaluate.update(halves=False, fractions=(), num_samples=1)
    return config


def process_fields(name):
    """Our training's fields of a neural process, beside its widths.

    Args:
      name: of the model.
    """
    if name not in NEURAL_PROCESSES:
        return {}
    fields = {"likelihood": "per_image", "sigma_floor": 0.004}
    if name == "multiscale_np.MultiscaleNP":
        return fields | {"widths": (32, 64, 128, 192), "down_blocks": (1, 1, 2, 2), "up_blocks": (1, 1, 2)}
    return fields | {"scale_weight": 0.1, "width": 32}


def get_config():
    """Returns the configuration."""
    config = over_holes(faces64.get_config("deepfill.DeepFill"))
    config.data.update(name="pictures", image_size=256)
    names = (
        *INPAINTERS,
        "deepfill.DeepFill-no_attention",
        "deepfill.DeepFill-appearance_flow",
        "deepfill.DeepFill-spatial_transformer",
        "deepfill.DeepFill-no_critics",
        "glcic.GLCIC-no_critics",
        *NEURAL_PROCESSES,
    )
    config = add_study(config, names, lambda name: _sizes.get_inpainter(name, 256) | process_fields(name))
    config.train.update(num_steps=200_000, batch_size=16, ema_decay=0.999)
    config.evaluate.update(num_images=2000, classical_images=100)
    return config
