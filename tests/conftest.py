"""Settings of every test; warnings are turned into errors in pyproject.toml."""

import hashlib
import os
import pathlib
import platform
import time

# Tests compile much and compute little: three times faster; processes that they start do the same.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 undoes it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

MAX_AGE = 14 * 24 * 3600  # seconds that an unused program is kept

# Silent broadcasting between ranks hides a forgotten axis.
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure():
    """Keeps compiled programs for other tests, for processes that they start, and for later runs."""
    for name, value in (
        ("jax_compilation_cache_dir", str(_programs_folder())),
        ("jax_persistent_cache_min_compile_time_secs", 0),
    ):
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


def _programs_folder():
    """A folder of the user alone, for this JAX on this processor; what no run used for long is forgotten."""
    if given := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return pathlib.Path(given)
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = next((line for line in lines if line.startswith("flags")), "")
    machine = hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:8]
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    folder = cache / "ifanp_jax_tests" / f"jax-{jax.__version__}-{machine}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.stat().st_mtime < time.time() - MAX_AGE:
            path.unlink(missing_ok=True)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Programs of one file are of no use to the next, and all of them together take gigabytes."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    """Begins with the longest file, so that it does not run alone at the end."""
    items.sort(key=lambda item: item.path.name != "test_reliability.py")
