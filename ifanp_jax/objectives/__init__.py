"""What a training minimises: ELBO and its terms."""

from ifanp_jax.objectives.elbo import (
    TARGETS,
    elbo,
    gaussian_kl,
    gaussian_log_prob,
    importance_weighted_bound,
    target_pixels,
)

__all__ = [
    "TARGETS",
    "elbo",
    "gaussian_kl",
    "gaussian_log_prob",
    "importance_weighted_bound",
    "target_pixels",
]
