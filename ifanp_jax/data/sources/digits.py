"""The 1,797 handwritten 8x8 digits that scikit-learn carries: no download."""

import numpy as np

from ifanp_jax.data import image_ops
from ifanp_jax.data.dataset import Dataset

NUM_TRAIN = 1497
SPLIT_SEED = 0


def load(config_data) -> Dataset:
    """Returns 1,497 training and 300 held-out digits, the same split on every machine.

    Values 0..16 become round(v * 255 / 16). The split sorts the images by one raw 64-bit output each of
    `numpy.random.PCG64(0)`; NumPy guarantees the raw stream of a bit generator, unlike its `permutation`.

    Args:
      config_data: `config.data`; only `name` and the recipe are used.

    Returns:
      uint8 (1497, 8, 8, 1) and (300, 8, 8, 1) in [0, 255], or as the recipe says.

    Raises:
      UserError: the recipe is out of range or its crop does not fit.
    """
    from sklearn import datasets

    values = datasets.load_digits().images  # (1797, 8, 8) float64 in 0..16
    images = np.round(values * (255 / 16)).astype(np.uint8)[..., None]
    order = np.argsort(np.random.PCG64(SPLIT_SEED).random_raw(len(images)), kind="stable")
    images = image_ops.apply_recipe_in_chunks(images[order], image_ops.make_recipe(config_data))
    return Dataset(name=config_data.name, train=images[:NUM_TRAIN], evaluation=images[NUM_TRAIN:])
