"""The picture that a person wants: parts of the picture in deep holes, the model elsewhere, with grain.

A mean has the best PSNR and is smoother than any picture. Where a hole is deeper than what the model fills
well, parts of the picture itself take its place, chosen by what the model expects (`classical.montage`).
Elsewhere the mean gets the fine detail of its surroundings (`classical.grain`).
"""

import itertools
import logging
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ifanp_jax.classical import grain, montage
from ifanp_jax.inference import pyramid, tiles

logger = logging.getLogger(__name__)

REACH = 1.5  # of the depth: missing pixels so near to a deep one belong to its hole
MARGIN = 64  # pixels around a hole that are copied from, at least; else its longest side
MIN_KNOWN = 0.5  # of what lies around a hole, for parts to be copied
DOUBTFUL = 0.35  # standard deviations between montage and model: one hole of ten has more
DOUBT_BLUR, DOUBT_FLOOR = 6.0, 0.03  # pixels over which they are compared; added to the deviation
DRAW_BLUR = 12.0  # pixels, over which a drawn guide goes up and down


class Filled(NamedTuple):
    """What a person gets."""

    image: np.ndarray  # float32 (H, W, C) in [0, 1], observed pixels kept
    alternatives: list[np.ndarray]  # likewise, one for each further guide
    notes: tuple[str, ...]  # sentences on what is doubtful in the first


def complete(
    mean: np.ndarray,
    known: np.ndarray,
    deviation: np.ndarray | None,
    *,
    depth: float | None,
    with_grain: bool,
    seed: int,
    guides: Iterable[np.ndarray] = (),
) -> Filled:
    """Fills deep holes from the picture, and adds grain elsewhere.

    Args:
      mean: float32 (H, W, C) in [0, 1], the model's estimate with observed pixels kept.
      known: bool (H, W).
      deviation: float32 (H, W, C), its standard deviation; None where the model knows none.
      depth: pixels to the nearest observed one above which a hole is deep; None = none is.
      with_grain: whether what is not deep gets grain.
      guides: float32 (H, W, C) each, what the parts of a further picture follow in place of the mean.
    """
    if known.all() or not known.any():
        return Filled(mean, [mean for _ in guides], ())
    thin = grain.add(mean, known) if with_grain else mean
    deep = np.zeros_like(known) if depth is None else find_deep(known, depth)
    windows = [(window, _find_scale(deviation, window)) for window in _find_windows(deep)]
    pictures, notes, kept = [], [], 0
    for number, guide in enumerate(itertools.chain([mean], guides)):
        result = thin.copy() if windows else thin
        for window, scale in windows:
            hole, expected = deep[window], guide[window]
            filled = _fill_window(thin[window], expected, known[window], hole, scale, seed + number)
            if filled is not None:
                result[window] = np.where(hole[..., None], filled, thin[window])
            if number == 0:  # of the others the same is true
                kept += filled is None
                if filled is not None and is_doubtful(filled, expected, scale, hole):
                    notes.append(_describe_doubt(window))
        pictures.append(result)
    _say(deep, known, len(windows) - kept, kept, depth, with_grain)
    return Filled(pictures[0], pictures[1:], tuple(notes))


def _find_scale(deviation, window):
    """The deviation of the window's pixels, float32 (h, w), root mean square over the channels."""
    if deviation is None:
        return np.zeros([part.stop - part.start for part in window], np.float32)
    return np.sqrt(np.square(deviation[window]).mean(axis=-1))


def draw_guide(mean: np.ndarray, deviation: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """What else may be expected, for a model that drew no samples: smooth steps of its deviation.

    Args:
      mean: float32 (H, W, C) in [0, 1].
      deviation: likewise, 0 where observed.

    Returns:
      float32 (H, W, C) in [0, 1].
    """
    result = mean.copy()
    part = tiles.find_box((deviation > 0).any(axis=-1))
    noise = np.random.default_rng(seed).standard_normal(mean[part].shape, np.float32)
    noise = ndimage.gaussian_filter(noise, (DRAW_BLUR, DRAW_BLUR, 0))
    noise /= max(noise.std(), 1e-9)
    result[part] = np.clip(mean[part] + deviation[part] * noise, 0, 1)
    return result


def find_deep(known: np.ndarray, depth: float) -> np.ndarray:
    """The missing pixels of holes that are deeper than `depth` pixels, bool (H, W).

    A thin scratch that runs into a hole stays out: what counts lies within REACH of the depth from a deep
    pixel.
    """
    deep = pyramid.measure_depth(known, beyond=depth) > depth
    if not deep.any():
        return deep
    part = tiles.find_box(deep, margin=int(REACH * depth) + 1)
    near = ndimage.distance_transform_edt(~deep[part]) <= REACH * max(depth, 1)
    deep[part] = near & ~known[part]
    return deep


def is_doubtful(filled: np.ndarray, mean: np.ndarray, scale: np.ndarray, hole: np.ndarray) -> bool:
    """Whether a montage differs from what the model expects by more than the model's deviation allows."""
    blur = (DOUBT_BLUR, DOUBT_BLUR, 0)
    difference = ndimage.gaussian_filter(filled - mean, blur)[hole]
    variance = np.square(scale[hole]) + DOUBT_FLOOR**2
    return bool(np.sqrt((np.square(difference).mean(axis=-1) / variance).mean()) > DOUBTFUL)


def _find_windows(deep):
    """Rows and columns around each hole; holes whose windows meet share one."""
    holes = ndimage.find_objects(ndimage.label(deep, structure=np.ones((3, 3)))[0])
    windows = []
    for hole in holes:
        margin = max(MARGIN, *(part.stop - part.start for part in hole))
        window = _grow(hole, margin, deep.shape)
        # Each joining may make others meet.
        while meeting := [other for other in windows if _do_meet(window, other)]:
            windows = [other for other in windows if not _do_meet(window, other)]
            window = _join([window, *meeting])
        windows.append(window)
    return windows


def _grow(box, margin, size):
    return tuple(
        slice(max(0, part.start - margin), min(length, part.stop + margin))
        for part, length in zip(box, size, strict=True)
    )


def _do_meet(a, b):
    return all(x.start < y.stop and y.start < x.stop for x, y in zip(a, b, strict=True))


def _join(boxes):
    return tuple(
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*boxes, strict=True)
    )


def _fill_window(picture, mean, known, hole, scale, seed):
    """The picture with its holes filled, or None where there is too little to copy from."""
    if known[~hole].mean() < MIN_KNOWN:
        return None
    guide = np.where(hole[..., None], mean, picture)
    filled = montage.complete(picture, ~hole, guide, scale, seed=seed)
    return None if filled is None else filled.image


def _describe_doubt(window):
    rows, columns = window
    return (
        f"The hole within rows {rows.start} to {rows.stop} and columns {columns.start} to {columns.stop} is "
        "doubtful: the parts of the picture differ from what the model expects there."
    )


def _say(deep, known, count, kept, depth, with_grain):
    """One line: what fills what, and why."""
    parts = []
    if count:
        share = deep.sum() / (~known).sum()
        parts.append(
            f"{share:.0%} of what is missing lies in holes deeper than {depth:g} pixels and is filled with "
            "parts of the picture (--fill=model leaves the smooth estimate)"
        )
    if kept:
        parts.append(f"around {kept} of the holes too little is known to copy from")
    if with_grain and (~known & ~deep).any():
        parts.append("thin marks get the grain of their surroundings (--nograin leaves it out)")
    if parts:
        text = "; ".join(parts)
        logger.info("%s.", text[0].upper() + text[1:])
