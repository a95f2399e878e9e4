"""Where a picture differs from what a model was trained on, in words."""

import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.inference import pyramid

MAX_SCATTERED_DEPTH = 8.0  # pixels; scattered contexts have hardly any pixel so far from an observed one
MAX_SIZE_RATIO = 2  # of a picture's longest side to the training's, without a word


def list_untrained(
    config: ConfigDict | None, image_shape: tuple[int, int, int], masks: np.ndarray, how: str
) -> list[str]:
    """What a model never saw in its training.

    Args:
      config: of its run; None where it is not known.
      image_shape: (H, W, C) of the training.
      masks: bool (B, H, W), True = observed; of a batch the picture farthest from the training counts.
      how: it is completed, "own", "trained" or "tiles".

    Returns:
      Sentences.
    """
    notes, (h, w), (trained_h, trained_w) = [], masks.shape[1:], image_shape[:2]
    is_larger = max(h, w) > MAX_SIZE_RATIO * max(trained_h, trained_w)
    if how != "trained" and is_larger and not _is_of_crops(config):
        data = f" ({config.data.name})" if config is not None else ""
        notes.append(
            f"The model was trained on pictures of {trained_h}x{trained_w} pixels{data} and never on "
            f"{h}x{w}: bring the picture to that size, or take a model that was trained on crops, such as "
            '"photos".'
        )
    if config is None or "mask" not in config:
        return notes
    shares, least = masks.mean(axis=(1, 2)), np.min(config.mask.fraction)
    observed = float(np.min(shares, initial=1.0, where=shares > 0))
    if config.mask.kind in ("random", "varied", "mixed") and observed < least / 2:
        notes.append(
            f"{format_share(observed)} of the pixels are observed; in the training it was at least "
            f"{format_share(float(least))}."
        )
    if how != "trained" and _is_scattered(config.mask):
        depth = max(pyramid.measure_depth(mask, beyond=MAX_SCATTERED_DEPTH).max() for mask in masks)
        if depth > MAX_SCATTERED_DEPTH:
            notes.append(
                "The model was trained on scattered pixels alone, never on a hole like this one: a missing "
                f"pixel is {depth:.0f} pixels from the nearest observed one."
            )
    return notes


def format_share(share: float) -> str:
    """A share in [0, 1] in percent, with the digits that a small one needs."""
    if 0 < share < 0.001:
        return f"{100 * share:.1g} %"
    if 0.9995 <= share < 1:
        return f"{100 * share:.3f} %"
    return f"{100 * share:.1f} %"


def _is_of_crops(config):
    """Whether a training saw parts of pictures at their own size: those look alike in any picture."""
    if config is None or config.data.image_size:
        return False
    return bool(config.data.random_crop or config.data.tile_size)


def _is_scattered(config):
    """Whether the contexts of a training are random pixels alone."""
    shares = config.get("shares", {})
    others = sum(share for kind, share in shares.items() if kind != "random")
    return config.kind == "random" or (config.kind == "varied" and others == 0)
