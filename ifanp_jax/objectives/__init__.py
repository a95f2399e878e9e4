"""What a training minimises: ELBO and its terms."""

from ifanp_jax.objectives.elbo import (
    TARGETS,
    elbo,
    gaussian_kl,
    gaussian_log_prob,
    importance_weighted_bound,
    target_pixels,
)
from ifanp_jax.objectives.gaussian import cholesky_log_prob, per_image_log_prob
from ifanp_jax.objectives.student_t import student_t_log_prob

__all__ = [
    "TARGETS",
    "cholesky_log_prob",
    "elbo",
    "gaussian_kl",
    "gaussian_log_prob",
    "importance_weighted_bound",
    "per_image_log_prob",
    "student_t_log_prob",
    "target_pixels",
]
