r"""What each part of the multi-scale model is worth on CelebA 32x32, each in ten minutes of one CPU core.

    taskset -c 0 python -m ifanp_jax.main --mode=study --config=configs/ablation_celeba.py \
        --workdir=runs/ablation --config.data.source=arrays --config.data.dir=ARRAYS

`ARRAYS` holds `train.npy` and `val.npy`, uint8 (N, 32, 32, 3). The model and its training are those of
`celeba_multiscale`, with batches of 32; a name behind the model's takes one part away, or adds one. Each has
as many steps as fit in ten minutes of the processor (`study.minutes`), found by a short training that is
thrown away; the last table gives them. With the evaluation the study takes about two hours.

`--config=configs/ablation_celeba.py:shape` compares the model with a cheaper shape of it instead, at equal
steps and with three seeds.
"""

from ifanp_jax import presets
from ifanp_jax.errors import UserError

NAME = "multiscale_np.MultiscaleNP"
CHANGES = {
    # The network sees the masked image and the mask alone.
    "no_kernels": {"model": {"length_scales": ()}},
    # A Normal with a scale per value, in the loss of the mean; it has no covariance.
    "one_likelihood": {"model": {"likelihood": "per_pixel", "has_covariance": False}},
    "adam": {"train": {"optimizer": "adam", "learning_rate": 2e-3}},
    "no_covariance": {"model": {"has_covariance": False}},
    "latent": {"model": {"latent_dim": 64}},
    # At full resolution only what enters and leaves the network, pixel by pixel.
    "no_full_resolution": {"model": {"down_blocks": (0, 1, 2, 2), "up_blocks": (0, 1, 2)}},
}
SHAPES = {"one_coarsest_block": {"model": {"down_blocks": (1, 1, 2, 1)}}}  # in place of two


def get_config(which="parts"):
    """Returns the configuration.

    Args:
      which: "parts" or "shape".
    """
    if which not in ("parts", "shape"):
        raise UserError(f"{which!r} names no part of this study; give parts or shape.")
    changes = CHANGES if which == "parts" else SHAPES
    config = presets.load("celeba_multiscale")
    own = config.model.to_dict()
    del own["name"]
    names = (NAME, *(f"{NAME}-{change}" for change in changes))
    presets.add_study(
        config,
        names,
        lambda name: own,
        minutes=10.0,
        variants=names,
        figure_a=names,
        figure_b=(NAME, f"{NAME}-latent"),
        order=tuple((name, NAME) for name in names[1:]),
        published=(),
        changes=changes,
    )
    config.train.update(batch_size=32, ema_decay=0.995, validate_every=0)
    if which == "shape":
        config.study.update(seeds=(0, 1, 2), minutes=0.0, figure_b=names)
        config.train.num_steps = 1500
    config.evaluate.update(num_images=300, classical_images=300, rounds_images=16, figure_images=0)
    return config
