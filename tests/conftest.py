"""Settings of every test; warnings are turned into errors in pyproject.toml."""

import os

import jax

# Silent broadcasting between ranks hides a forgotten axis.
jax.config.update("jax_numpy_rank_promotion", "raise")

# Tests compile much and compute little: three times faster. JAX_DISABLE_MOST_OPTIMIZATIONS=0 undoes it.
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
    jax.config.update("jax_disable_most_optimizations", True)
