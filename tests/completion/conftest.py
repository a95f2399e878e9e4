"""The models of `tests/inference`."""

from tests.inference.conftest import colour_model, make_model, model, tiled_model

__all__ = ["colour_model", "make_model", "model", "tiled_model"]
