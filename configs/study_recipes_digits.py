r"""Every neural process and VAE under the paper's training and under ours, on the 8x8 digits, at equal steps.

    python -m ifanp_jax.main --mode=study --config=configs/study_recipes_digits.py --workdir=runs/recipes

A name that ends in "-ours" has our training (`presets.use_our_training`), one without it the paper's: random
contexts of 30 to 60 %, all pixels as target, a fixed sigma. At equal time instead, half a minute of one core
for each model; and two models by our training with three seeds, a minute each:

    python -m ifanp_jax.main --mode=study --config=configs/study_recipes_digits.py \
        --config.study.minutes=0.5 --workdir=runs/recipes_time
    python -m ifanp_jax.main --mode=study --config=configs/study_recipes_digits.py:ours \
        --config.study.minutes=1.0 --workdir=runs/recipes_seeds

Judged by the times of `study_digits`, the first two take about half an hour of one core each, the third ten
minutes.
"""

from ifanp_jax import models, presets
from ifanp_jax.errors import UserError

OURS = "ours"
IFANP = "image_np.IFANP"
MULTISCALE_NP = "multiscale_np.MultiscaleNP"


def by_ours(name):
    """The name of a model by our training."""
    return f"{name}-{OURS}"


def get_config(which="all"):
    """Returns the configuration.

    Args:
      which: "all"; or "ours", IFANP and MultiscaleNP by our training with three seeds.
    """
    if which not in ("all", OURS):
        raise UserError(f"{which!r} names no part of this study; give all or {OURS}.")
    paper = presets.load("study_digits")
    names = (*paper.study.models, MULTISCALE_NP)
    config = presets.load("digits")
    config.mask.kind = "random"
    presets.add_study(
        config,
        names + tuple(map(by_ours, names)),
        lambda name: presets.size_of(name, 8),
        common=tuple(paper.model),
        minutes=0.0,
        changes={
            OURS: presets.as_change(presets.load("digits"), presets.load(f"digits_multiscale:{IFANP}")),
            # Its own, which the paper's training makes no use of.
            "multiscale_np": {
                "model": {"scale_weight": models.default_fields(MULTISCALE_NP)["scale_weight"]},
            },
        },
        order=(
            *((name, by_ours(name)) for name in names),
            (IFANP, MULTISCALE_NP),
            (by_ours(IFANP), by_ours(MULTISCALE_NP)),
        ),
        figure_a=(IFANP, by_ours(IFANP), MULTISCALE_NP, by_ours(MULTISCALE_NP)),
        figure_b=(by_ours("image_np.IFNP"), by_ours(IFANP)),
        variants=tuple(map(by_ours, (*paper.study.variants, MULTISCALE_NP))),
        published=(),
    )
    if which == OURS:
        config.study.update(models=(by_ours(IFANP), by_ours(MULTISCALE_NP)), seeds=(0, 1, 2))
    config.train.update(num_steps=600, validate_every=0)
    config.evaluate.figure_images = 0
    return config
