"""Trainings: `run` makes one, and a `Run` is what comes of it."""

from ifanp_jax.training.loop import run
from ifanp_jax.training.runs import Run, load

__all__ = ["Run", "load", "run"]
