"""Fixtures of several files."""

from tests.training.short_run import finished, workdir

__all__ = ["finished", "workdir"]
