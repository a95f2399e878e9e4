"""Settings of every test; warnings are turned into errors in pyproject.toml."""

import os
import tempfile

# Tests compile much and compute little: three times faster; processes that they start do the same.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 undoes it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

# Silent broadcasting between ranks hides a forgotten axis.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Keeps compiled programs for the other tests of this process and the processes that they start."""
    folder = tempfile.TemporaryDirectory(prefix="programs_")
    config.add_cleanup(folder.cleanup)
    for name, value in (
        ("jax_compilation_cache_dir", folder.name),
        ("jax_persistent_cache_min_compile_time_secs", 0.15),
    ):
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Programs of one file are of no use to the next, and all of them together take gigabytes."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    """Begins with the longest file, so that it does not run alone at the end."""
    items.sort(key=lambda item: item.path.name != "test_reliability.py")
