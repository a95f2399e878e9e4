"""Intervals of means over images; on the host, in NumPy."""

import numpy as np


def bootstrap_interval(
    values: np.ndarray, *, seed: int, num_resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron 1979).

    Args:
      values: real (N,), one number per image, N at least 1.
      seed: of the resampling; the same seed gives the same interval.
      num_resamples: how many resamples of N values with replacement.
      level: probability in (0, 1) that the interval is meant to cover.

    Returns:
      (low, high) in the unit of the values.

    Raises:
      ValueError: no values, not one-dimensional, or a level outside (0, 1).
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"The bootstrap got values of shape {values.shape}; it needs (N,), N at least 1.")
    if not 0.0 < level < 1.0:
        raise ValueError(f"The bootstrap got level {level}; it must lie between 0 and 1, such as 0.95.")
    generator = np.random.default_rng(seed)
    means = [values[generator.integers(values.size, size=values.size)].mean() for _ in range(num_resamples)]
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
