"""Completion: what a trained model answers to a user's images."""

from ifanp_jax.completion.model import CompletionModel
from ifanp_jax.completion.result import CompletionResult

__all__ = ["CompletionModel", "CompletionResult"]
