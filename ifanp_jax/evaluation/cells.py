"""The cells of a table: which context masks a model is tested on, the same for every model."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.data import masks


def list_cells(config: ConfigDict) -> list[tuple[str, float]]:
    """The (mask, observed fraction) pairs of `config.evaluate`."""
    cells = [("random", float(fraction)) for fraction in config.fractions]
    if config.uniform_fraction:
        cells.append(("uniform", float(config.uniform_fraction)))
    return cells + [(side, 0.5) for side in masks.HALVES] if config.halves else cells


def draw_contexts(seed: int, kind: str, fraction: float, shape: tuple[int, int, int]) -> np.ndarray:
    """Draws the fixed contexts of one cell: image i has the same one in every evaluation, whatever its batch.

    Args:
      seed: `config.evaluate.seed`.
      kind: "random", "uniform" or a half.
      fraction: observed share for "random", the largest one for "uniform", whose images each have their own.
      shape: (N, H, W).

    Returns:
      bool (N, H, W, 1), True = observed.
    """
    n, h, w = shape
    if kind in masks.HALVES:
        return np.asarray(masks.half(kind, shape))
    count = masks.count_pixels(fraction, h, w)
    cell_key = jax.random.fold_in(jax.random.key(seed), count)
    keys = jax.vmap(lambda index: jax.random.fold_in(cell_key, index))(jnp.arange(n))

    def draw(key):
        if kind == "random":
            return masks.random(key, (1, h, w), count)[0]
        count_key, place_key = jax.random.split(key)
        return masks.random(place_key, (1, h, w), jax.random.randint(count_key, (), 0, count + 1))[0]

    return np.asarray(jax.jit(jax.vmap(draw))(keys))


def value_name(kind: str, fraction: float, metric: str) -> str:
    """The key of `evaluation.npz` under which a cell's values of one metric stand, one row per image."""
    return f"{kind} {fraction:g} {metric}"
