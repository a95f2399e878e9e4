r"""Every neural process and VAE under the paper's training and under ours, on the 8x8 digits, at equal steps.

    python -m ifanp_jax.main --mode=study --config=configs/study_recipes_digits.py --workdir=runs/recipes

A name that ends in "-ours" has our training (`_recipe.apply`), one without it the paper's: random contexts of
30 to 60 %, all pixels as target, a fixed sigma. At equal time instead, half a minute of one core for each
model; and two models by our training with three seeds, a minute each:

    python -m ifanp_jax.main --mode=study --config=configs/study_recipes_digits.py \
        --config.study.minutes=0.5 --workdir=runs/recipes_time
    python -m ifanp_jax.main --mode=study --config=configs/study_recipes_digits.py:ours \
        --config.study.minutes=1.0 --workdir=runs/recipes_seeds

Judged by the times of `study_digits`, the first two take about half an hour of one core each, the third ten
minutes.
"""

import ml_collections

from configs import _recipe, digits, digits_multiscale, study_digits
from ifanp_jax import models
from ifanp_jax.errors import UserError
from ifanp_jax.study import one_run

OURS = "ours"
IFANP = "image_np.IFANP"
MULTISCALE_NP = "multiscale_np.MultiscaleNP"
NAMES = (*study_digits.VARIANTS, *study_digits.BASELINES, MULTISCALE_NP)
NUM_STEPS = 600


def by_ours(name):
    """The name of a model by our training."""
    return f"{name}{one_run.CHANGE}{OURS}"


def get_config(which="all"):
    """Returns the configuration.

    Args:
      which: "all"; or "ours", IFANP and MultiscaleNP by our training with three seeds.
    """
    if which not in ("all", OURS):
        raise UserError(f"{which!r} names no part of this study; give all or {OURS}.")
    config = study_digits.add_study(digits.get_config(), image_size=8, names=NAMES)
    study = config.study
    study.models = NAMES + tuple(map(by_ours, NAMES))
    study.minutes = 0.0  # of one core for each model; 0 = `train.num_steps`
    study.changes = ml_collections.ConfigDict(
        {
            OURS: _recipe.as_change(digits.get_config(IFANP), digits_multiscale.get_config(IFANP)),
            # Its own, which the paper's training makes no use of.
            "multiscale_np": {
                "model": {"scale_weight": models.default_fields(MULTISCALE_NP)["scale_weight"]},
            },
        }
    )
    study.order = (
        *((name, by_ours(name)) for name in NAMES),
        (IFANP, MULTISCALE_NP),
        (by_ours(IFANP), by_ours(MULTISCALE_NP)),
    )
    study.figure_a = (IFANP, by_ours(IFANP), MULTISCALE_NP, by_ours(MULTISCALE_NP))
    study.figure_b = (by_ours("image_np.IFNP"), by_ours(IFANP))
    study.variants = tuple(map(by_ours, (*study_digits.VARIANTS, MULTISCALE_NP)))
    if which == OURS:
        study.models, study.seeds = (by_ours(IFANP), by_ours(MULTISCALE_NP)), (0, 1, 2)
    config.train.update(num_steps=NUM_STEPS, validate_every=0)
    config.evaluate.figure_images = 0
    return config
