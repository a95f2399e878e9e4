r"""What the optimiser and the activation of our training are worth on the 8x8 digits, with three seeds.

Muon against Adam, at equal time (half a minute of one core) and at equal steps, for IFANP, ANP and
MultiscaleNP; gelu, silu and leaky ReLU in MultiscaleNP at equal steps:

    python -m ifanp_jax.main --mode=study --config=configs/study_choices_digits.py:optimizers \
        --config.study.minutes=0.5 --workdir=runs/optimizers_time
    python -m ifanp_jax.main --mode=study --config=configs/study_choices_digits.py:optimizers \
        --workdir=runs/optimizers_steps
    python -m ifanp_jax.main --mode=study --config=configs/study_choices_digits.py:activations \
        --workdir=runs/activations
"""

from ifanp_jax import presets
from ifanp_jax.errors import UserError

IFANP, ANP, MULTISCALE_NP = "image_np.IFANP", "point_np.ANP", "multiscale_np.MultiscaleNP"
OURS, ADAM, ACTIVATIONS = "ours", "adam", ("silu", "leaky_relu")


def get_config(which="optimizers"):
    """Returns the configuration.

    Args:
      which: "optimizers" or "activations".
    """
    if which not in ("optimizers", "activations"):
        raise UserError(f"{which!r} names no part of this study; give optimizers or activations.")
    config = presets.load("study_recipes_digits")
    study = config.study
    study.changes[OURS].evaluate.rounds = 0
    ours = study.changes[OURS].to_dict()
    adam = {"optimizer": "adam", "learning_rate": presets.load("digits").train.learning_rate}
    study.changes[ADAM] = ours | {"train": ours["train"] | adam}
    for name in ACTIVATIONS:
        study.changes[name] = ours | {"model": ours["model"] | {"activation": name}}
    if which == "optimizers":
        pairs = [(name, OURS, ADAM) for name in (IFANP, ANP, MULTISCALE_NP)]
    else:
        pairs = [(MULTISCALE_NP, OURS, *ACTIVATIONS)]
    named = [[f"{name}-{change}" for change in changes] for name, *changes in pairs]
    study.models = tuple(name for group in named for name in group)
    study.order = tuple((other, group[0]) for group in named for other in group[1:])
    study.variants = study.figure_a = study.models
    study.figure_b = tuple(study.models[:2])
    study.seeds = (0, 1, 2)
    return config
