"""From images and options to completions, tile by tile and, where holes are deep, coarse to fine."""

import logging

import flax.linen as nn
import numpy as np

from ifanp_jax.inference import pyramid, sizes
from ifanp_jax.inference.arguments import Options
from ifanp_jax.inference.limits import Limits
from ifanp_jax.inference.progress import Listener, Progress
from ifanp_jax.inference.result import CompletionResult
from ifanp_jax.inference.tile_model import TileModel
from ifanp_jax.inference.tiled import TiledPicture

logger = logging.getLogger(__name__)


def complete(
    model: nn.Module,
    variables,
    image_shape: tuple[int, int, int],
    image: np.ndarray,
    mask: np.ndarray,
    options: Options,
    limits: Limits,
    *,
    may_lower_rounds: bool,
    listener: Listener | None = None,
) -> CompletionResult:
    """Completes images one after the other, each of any size.

    Args:
      model: Flax module with `tile_margin`.
      variables: its parameters and other collections.
      image_shape: (H, W, C) of the training.
      image: float32 (B, H, W, C) in [0, 1], 0 where unobserved.
      mask: bool (B, H, W, 1), True = observed.
      options: as of `Model.complete`.
      limits: of the tiles.
      may_lower_rounds: True takes one round where there would be too many draws.
      listener: is told how far the picture is.
    """
    results, taken, tile_model = [], [], TileModel.make(model, variables, limits)
    max_depth = sizes.max_depth(image_shape)
    for values, known in zip(image, mask[..., 0], strict=True):
        depth = pyramid.measure_depth(known, beyond=max_depth)
        picture = TiledPicture.cut(
            tile_model,
            values,
            known,
            depth,
            max_depth=max_depth,
            sides=limits.tile_sides,
            progress=Progress(listener=listener),
        )
        draws = options.num_samples * options.rounds * picture.num_pixels
        rounds = 1 if may_lower_rounds and draws > limits.draws_at_once else options.rounds
        taken.append(rounds)
        _say(picture, depth, image_shape, options, rounds)
        results.append(_complete_picture(picture, options, rounds))
    samples, mean, uncertainty = zip(*results, strict=True)
    samples = _stack(samples, axis=1)
    return CompletionResult(samples, _stack(mean), _stack(uncertainty), samples, max(taken))


def _complete_picture(picture, options, rounds):
    """Samples (S, H, W, C), mean and uncertainty (H, W, C)."""
    picture.progress.expect(*picture.count_work(options.num_samples if rounds > 1 else 0, rounds))
    mean, uncertainty = picture.predict()
    if uncertainty is None:
        uncertainty = np.zeros_like(mean)
    if rounds == 1:
        return np.broadcast_to(mean, (options.num_samples, *mean.shape)), mean, uncertainty
    samples = np.empty((options.num_samples, *mean.shape), np.float32)
    squares = np.zeros_like(mean)
    for number in range(options.num_samples):
        samples[number] = picture.draw(
            options.seed, number, num_rounds=rounds, temperature=options.temperature
        )
        squares += np.square(samples[number] - mean)
    if options.uncertainty == "samples":
        uncertainty = np.sqrt(squares / options.num_samples)
    return samples, mean, uncertainty


def _say(picture, depth, image_shape, options, rounds):
    """One line: what is done, and why; and in how many rounds."""
    (h, w), num_levels = depth.shape, len(picture.levels)
    sides = {tile.side for cut in picture.tiles for tile in cut}
    if not sides:
        return
    sides = sorted({min(sides), max(sides)})
    line = (
        f"Completing {h}x{w} pixels in {picture.num_tiles} "
        f"{'tile' if picture.num_tiles == 1 else 'tiles'} of {' to '.join(f'{x}x{x}' for x in sides)}, "
        "only where something is missing"
    )
    if num_levels > 1:
        line += (
            f"; coarse to fine from 1/{2 ** (num_levels - 1)} of the size, as a missing pixel is "
            f"{depth.max():.0f} pixels from the nearest observed one, more than "
            f"{sizes.max_depth(image_shape):.0f}"
        )
    if rounds > 1:
        calls, _ = picture.count_work(options.num_samples, rounds)
        end = f"Each answer is drawn in {rounds} rounds, {calls} tiles in all."
    else:
        end = options.describe_one_round()
    logger.info("%s. %s", line, end)


def _stack(arrays, axis=0):
    """Like np.stack, but without a copy of a single array, which may be large."""
    return np.expand_dims(arrays[0], axis) if len(arrays) == 1 else np.stack(arrays, axis)
