"""From a completion to the arrays of picture files."""

import numpy as np

from ifanp_jax.completion.picture_file import Original
from ifanp_jax.inference.result import CompletionResult

# Standard deviation drawn white, in units of the picture's values from 0 to 1: a grey value of v is one of
# v / 4 grey levels of 8 bits. Uniform values, of which nothing is known, have one of 0.29.
WHITE_UNCERTAINTY = 0.25


def to_pictures(
    result: CompletionResult, picture: Original | np.ndarray, mask: np.ndarray
) -> dict[str, np.ndarray]:
    """The answers as they are written: `sample_1`, ..., `mean` and `uncertainty`, see `complete_files`.

    Args:
      result: of this picture.
      picture: the original, or uint8 (H, W, C) in the model's channels; observed pixels are taken from it.
      mask: bool (H, W), True = observed.

    Returns:
      Arrays like the original's by name; uint8 (H, W, 1) for `uncertainty`, if the result has one.
    """
    original = picture if isinstance(picture, Original) else Original(picture)
    answers = {f"sample_{number}": sample for number, sample in enumerate(result.samples, start=1)}
    drawn = {"mean": original.fill(result.mean, mask)}
    for name, answer in answers.items():
        is_equal = np.shares_memory(answer, result.mean)  # of one round without a latent variable
        drawn[name] = drawn["mean"] if is_equal else original.fill(answer, mask)
    if result.uncertainty is None:
        return drawn
    deviation = np.sqrt(np.square(result.uncertainty).mean(axis=-1, keepdims=True))
    drawn["uncertainty"] = to_uint8(np.minimum(deviation / WHITE_UNCERTAINTY, 1))
    return drawn


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Rounds float values in [0, 1] to 0, ..., 255."""
    return np.floor(values * 255 + 0.5).astype(np.uint8)
