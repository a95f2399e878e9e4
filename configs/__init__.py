"""The shipped configurations; `ifanp_jax.configs` where the package is installed."""
