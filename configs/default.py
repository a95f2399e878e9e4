"""The defaults: a model on the 8x8 digits. `ifanp_jax/configuration.py` explains every field.

Other files in this folder change what differs. Any field can be set on the command line,
`--config.train.num_steps=2000`; what follows the file's name after a colon is the model,
`--config=configs/celeba.py:point_np.ANP`. Widths, depths, optimiser and likelihood are our choices: the paper
does not give them.
"""

from ifanp_jax import presets


def get_config(model="image_np.IFANP"):
    """Returns the configuration."""
    return presets.default(model=model)
