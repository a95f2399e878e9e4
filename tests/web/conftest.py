"""The models of the tests of completion."""

from tests.inference.conftest import make_model

__all__ = ["make_model"]
