r"""Inpainters, neural processes and classical methods over the same holes at 256x256: for an accelerator.

    python -m ifanp_jax.main --mode=study --config=configs/study_inpainting.py --workdir=runs/inpainting \
        --config.data.dir=PICTURES

`PICTURES` holds the folders `train` and `val`; pictures are cropped to their central square and resized. The
inpainters have their published forms. It was not run yet. On two CPU cores: `study_inpainting_cpu`.
"""

from ifanp_jax import presets

INPAINTERS = (
    "context_encoder.ContextEncoder",
    "glcic.GLCIC",
    "shift_net.ShiftNet",
    "se_shift_net.SEShiftNet",
    "deepfill.DeepFill",
)
NEURAL_PROCESSES = ("multiscale_np.MultiscaleNP", "image_np.IFANP")
# What a name may end with, as in "glcic.GLCIC-no_critics".
CHANGES = {
    "no_attention": {"model": {"attention": "none"}},
    "appearance_flow": {"model": {"attention": "appearance_flow"}},
    "spatial_transformer": {"model": {"attention": "spatial_transformer"}},
    "no_critics": {"step": {"adversarial": "none"}},
}
NAMES = (
    *INPAINTERS,
    "deepfill.DeepFill-no_attention",
    "deepfill.DeepFill-appearance_flow",
    "deepfill.DeepFill-spatial_transformer",
    "deepfill.DeepFill-no_critics",
    "glcic.GLCIC-no_critics",
    *NEURAL_PROCESSES,
)


def fields_of(name, image_size):
    """A model's own fields: an inpainter's form for a size, else our likelihood and the widths."""
    if name not in NEURAL_PROCESSES:
        return presets.size_of(name, image_size)
    fields = {"likelihood": "per_image", "sigma_floor": 0.004}
    if name == "multiscale_np.MultiscaleNP":
        return fields | {"widths": (32, 64, 128, 192), "down_blocks": (1, 1, 2, 2), "up_blocks": (1, 1, 2)}
    return fields | {"scale_weight": 0.1, "width": 32}


def get_config(image_size="256"):
    """Returns the configuration.

    Args:
      image_size: side in pixels, as text: "256", or "64" for the small forms and the data of `faces64`.
    """
    deepfill = "deepfill.DeepFill" if image_size == "256" else "deepfill.DeepFill64"
    config = presets.load(f"faces64:{deepfill}")
    # Our training, which concerns the neural processes alone. Contexts are the inpainters' holes.
    ours = presets.as_change(presets.default(), presets.use_our_training(presets.default()))
    config.objective.update(ours["objective"])
    config.train.update(ours["train"])
    config.evaluate.update(halves=False, fractions=(), num_samples=1)
    if image_size == "256":
        config.data.update(name="pictures", image_size=256)
        config.train.update(num_steps=200_000, batch_size=16, ema_decay=0.999)
        config.evaluate.update(num_images=2000, classical_images=100)
    return presets.add_study(
        config,
        tuple(name.replace("deepfill.DeepFill", deepfill) for name in NAMES),
        lambda name: fields_of(name, int(image_size)),
        changes=CHANGES,
        # The orders that the papers claim.
        order=(
            ("context_encoder.ContextEncoder", "shift_net.ShiftNet"),
            ("shift_net.ShiftNet", "se_shift_net.SEShiftNet"),
            (f"{deepfill}-no_attention", deepfill),
            (f"{deepfill}-appearance_flow", deepfill),
            (f"{deepfill}-spatial_transformer", deepfill),
            (f"{deepfill}-no_critics", deepfill),
            ("glcic.GLCIC-no_critics", "glcic.GLCIC"),
            ("image_np.IFANP", "multiscale_np.MultiscaleNP"),
        ),
    )
