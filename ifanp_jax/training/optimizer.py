"""The optimiser of a training, from its configuration."""

import optax


def learning_rate_schedule(config) -> optax.Schedule:
    """Linear warm-up from 0, then a cosine to 0 at `num_steps`; `config` = the fields of `config.train`."""
    warmup = min(config.warmup_steps, config.num_steps // 2)
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, max(config.num_steps, warmup + 1)
    )


def make_optimizer(config) -> optax.GradientTransformation:
    """Adam, or AdamW where `weight_decay` is positive, after clipping where `max_grad_norm` is positive."""
    clip = optax.clip_by_global_norm(config.max_grad_norm) if config.max_grad_norm > 0 else optax.identity()
    return optax.chain(clip, optax.adamw(learning_rate_schedule(config), weight_decay=config.weight_decay))
