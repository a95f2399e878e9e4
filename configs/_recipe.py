"""Our training, for any model: what gives more than another architecture at equal time.

One scale per image for the mean and a scale head beside it; contexts of every kind and size, each image its
own; flips; Muon for kernels; a moving average of the parameters; the loss counts unobserved values. The
evaluation also measures samples by rounds.
"""


def apply(config):
    """Changes a configuration to our training and returns it."""
    config.model.update(likelihood="per_image", sigma_floor=0.004)
    if config.model.name != "multiscale_np.MultiscaleNP":
        config.model.scale_weight = 0.1
    config.data.flips = "horizontal"
    config.mask.kind = "varied"
    config.mask.fraction = (0.02, 0.98)
    config.objective.update(target="unobserved", per_value=True)
    config.train.update(
        optimizer="muon", learning_rate=1e-2, warmup_steps=50, weight_decay=1e-3, ema_decay=0.995
    )
    config.evaluate.rounds = 16
    return config


def as_change(before, after):
    """The fields in which one configuration of a model differs from another, as a change of a study.

    Args:
      before: of the study's training.
      after: the same model by the other training.

    Returns:
      Fields and values by group.
    """
    found = {}
    for group in ("data", "mask", "model", "objective", "train", "evaluate"):
        old, new = before[group].to_dict(), after[group].to_dict()
        if differing := {name: value for name, value in new.items() if value != old[name]}:
            found[group] = differing
    return found
