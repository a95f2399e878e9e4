"""A study that is made in seconds."""

from configs import study_recipes_digits
from ifanp_jax.study import run
from tests import tiny

MODELS = ("image_np.IFNP", "image_np.IFANP", "point_np.CNP-ours")


def make_config(**overrides):
    config = study_recipes_digits.get_config()
    config.study.models = MODELS
    config.study.variants = MODELS[:2]
    config.study.figure_a = MODELS
    config.study.figure_b = MODELS[:1]
    config.study.order = (("image_np.IFNP", "image_np.IFANP"), ("point_np.CNP-ours", "image_np.IFANP"))
    config.study.published = (("image_np.IFNP", ((0.6, 15.4, 0.000025), (0.3, 15.5, 0.1))),)
    small = {"width": 8, "encoder_depth": 1, "decoder_depth": 1}
    for name, fields in (("IFNP", small), ("IFANP", small)):
        config.study.fields.image_np[name].update(fields | {"latent_dim": 4})
    config.study.fields.point_np.CNP.update(small)
    config.study.changes.ours.evaluate.rounds = 0  # compiled elsewhere
    fields = {name: value for name, value in tiny.FIELDS.items() if not name.startswith("model.")}
    config.update_from_flattened_dict(
        fields
        | {
            "train.num_steps": 4,
            "train.validate_every": 0,
            "train.checkpoint_every": 2,
            "evaluate.num_images": 6,
            "evaluate.num_samples": 3,
            "evaluate.fractions": (0.2, 0.6),
            "evaluate.classical_images": 2,
        }
        | overrides
    )
    return config


def run_in(workdir):
    """The folder of a finished study, and what it answered."""
    return workdir, run.run(make_config(), workdir, tiny.digits())
