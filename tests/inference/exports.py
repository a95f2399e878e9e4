"""Models with random variables, and their exports."""

from configs import default
from ifanp_jax import models
from ifanp_jax.inference import export
from ifanp_jax.inference.model import Model
from tests import helpers, tiny

SHAPE = (6, 8, 3)
NUM_SAMPLES = 2
FIELDS = {  # what a name alone does not decide
    "image_np.IFANP": {"likelihood": "learned", "lpa_learned_scale": True},
    "multiscale_np.MultiscaleNP": {"widths": (4, 6), "down_blocks": (1, 1), "up_blocks": (1,)},
    "vae.VAE": {"likelihood": "per_pixel"},
}
# One for each kind of network and likelihood; inpainters are exported in tests/inpainters.
MODELS = ("image_np.IFANP", "multiscale_np.MultiscaleNP", "point_np.ANP", "point_np.CNP", "vae.VAE")


def make_trained(name, *, image_shape=SHAPE, **fields):
    """A model of 7 steps with random variables; nothing is compiled."""
    config = default.get_config()
    config.model = tiny.make_model_config(name, **FIELDS.get(name, {}) | fields)
    module = models.get(config.model, channels=image_shape[-1])
    return Model(module, helpers.random_variables(module, image_shape), config, image_shape, step=7)


def export_all(folder, names):
    """Exports models below `folder`, each under its name; the folder."""
    for name in names:
        export.write(make_trained(name), folder / name, num_samples=NUM_SAMPLES)
    return folder
