"""The models of the tests of completion."""

from tests.inference.conftest import tiled_model

__all__ = ["tiled_model"]
