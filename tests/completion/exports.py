"""Runs with random variables, and their exports."""

import jax.numpy as jnp

from configs import default
from ifanp_jax.inference import export
from ifanp_jax.training import runs
from ifanp_jax.training.steps.elbo import TrainState
from tests import helpers, tiny

SHAPE = (6, 8, 3)
NUM_SAMPLES = 3
FIELDS = {  # what a name alone does not decide
    "image_np.IFANP_LPA": {"lpa_learned_scale": True},
    "image_np.IFANP_SENet": {"likelihood": "per_pixel"},
    "image_np.IFANP_GCA": {"gca_blocks": 2, "gca_heads": 2},
    "image_np.IFANP": {"likelihood": "learned"},
}


def make_run(name, *, image_shape=SHAPE):
    """A run of 7 steps that evaluates with an average of the parameters; nothing is compiled."""
    config = default.get_config()
    config.train.ema_decay = 0.5
    config.model = tiny.make_model_config(name, **FIELDS.get(name, {}))
    run = runs.make(config, image_shape)
    params, average = (helpers.random_variables(run.model, image_shape, seed)["params"] for seed in (0, 1))
    state = TrainState(step=jnp.int32(7), params=params, opt_state=(), ema_params=average)
    return runs.Run(config=config, image_shape=image_shape, model=run.model, step=run.step, state=state)


def export_all(folder, names):
    """Exports models below `folder`, each under its name; the folder."""
    for name in names:
        export.write(make_run(name), folder / name, num_samples=NUM_SAMPLES)
    return folder
