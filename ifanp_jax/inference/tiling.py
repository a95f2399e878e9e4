"""Pictures of any size: cut into tiles and levels, completed tile by tile, coarse to fine.

Samples by rounds are those of the whole picture: one random order of its unknown pixels, noise drawn for each
pixel of it, and each round's answers are context of the next one in every tile. So they do not depend on how
the picture is cut, but for the tolerance of the tiles (`tiles`).
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from ifanp_jax.inference import autoregressive, predict, pyramid, sizes, tiles
from ifanp_jax.inference.options import CompletionOptions
from ifanp_jax.inference.progress import Listener, Progress
from ifanp_jax.inference.pyramid import Level
from ifanp_jax.inference.result import CompletionResult
from ifanp_jax.inference.sizes import Limits
from ifanp_jax.inference.tiles import Tile
from ifanp_jax.models.base import Completion
from ifanp_jax.runtime import device_mesh

logger = logging.getLogger(__name__)


def complete(
    model,
    image: np.ndarray,
    mask: np.ndarray,
    options: CompletionOptions,
    *,
    may_lower_rounds: bool,
    listener: Listener | None = None,
) -> CompletionResult:
    """Completes images (B, H, W, C) one after the other, each of any size.

    Args:
      model: an `inference.model.Model` whose module has a `tile_margin`.
      may_lower_rounds: True takes one round where there would be too many draws.
      listener: is told how far the picture is.
    """
    results, module, limits = [], model.module, model.limits
    tile_model = TileModel.make(module, model.variables, limits)
    cuts = {"margin": module.tile_margin(), "cell": module.cell, "sides": limits.tile_sides}
    max_depth = sizes.max_depth(model.image_shape)
    for values, known in zip(image, mask[..., 0], strict=True):
        # Cut every level into tiles.
        depth = pyramid.measure_depth(known, beyond=max_depth)
        levels = pyramid.make_levels(values, known, depth, max_depth)
        cut = [tiles.choose(~level.known, **cuts) for level in levels]
        picture = TiledPicture(tile_model, levels, cut, Progress(listener=listener))
        # Complete them, in one round where there would be too many draws.
        draws = options.num_samples * options.rounds * picture.count_work(0, 0)[1]
        rounds = 1 if may_lower_rounds and draws > limits.draws_at_once else options.rounds
        _say(picture, depth, max_depth, options, rounds)
        results.append((*_complete_picture(picture, options, rounds), rounds))
    samples, mean, uncertainty, rounds = zip(*results, strict=True)
    samples = _stack(samples, axis=1)
    return CompletionResult(samples, _stack(mean), _stack(uncertainty), samples, max(rounds))


def _complete_picture(picture, options, rounds):
    """Samples (S, H, W, C), mean and uncertainty (H, W, C)."""
    picture.progress.expect(*picture.count_work(options.num_samples if rounds > 1 else 0, rounds))
    mean, uncertainty = picture.climb(picture.sweep, is_mean=True)
    if uncertainty is None:
        uncertainty = np.zeros_like(mean)
    if rounds == 1:
        return np.broadcast_to(mean, (options.num_samples, *mean.shape)), mean, uncertainty
    samples = np.empty((options.num_samples, *mean.shape), np.float32)
    squares = np.zeros_like(mean)
    for number in range(options.num_samples):
        generator = np.random.default_rng((options.seed, number))
        samples[number] = picture.draw(generator, num_rounds=rounds, temperature=options.temperature)
        squares += np.square(samples[number] - mean)
    if options.uncertainty == "samples":
        uncertainty = np.sqrt(squares / options.num_samples)
    return samples, mean, uncertainty


def _say(picture, depth, max_depth, options, rounds):
    """One line: what is done, and why; and in how many rounds."""
    (h, w), num_levels, (num_tiles, _) = depth.shape, len(picture.levels), picture.count_work(0, 0)
    sides = {tile.side for cut in picture.tiles for tile in cut}
    if not sides:
        return
    sides = " to ".join(f"{x}x{x}" for x in sorted({min(sides), max(sides)}))
    line = (
        f"Completing {h}x{w} pixels in {num_tiles} {'tile' if num_tiles == 1 else 'tiles'} of {sides}, "
        "only where something is missing"
    )
    if num_levels > 1:
        line += (
            f"; coarse to fine from 1/{2 ** (num_levels - 1)} of the size, as a missing pixel is "
            f"{depth.max():.0f} pixels from the nearest observed one, more than {max_depth:.0f}"
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


@dataclasses.dataclass(frozen=True, eq=False)
class TiledPicture:
    """A picture cut into levels and tiles, which can be completed several times.

    Attributes:
      model: answers its tiles.
      levels: the picture at several sizes, the largest first.
      tiles: of each level.
      progress: of all that is done with it.
    """

    model: "TileModel"
    levels: list[Level]
    tiles: list[list[Tile]]
    progress: Progress

    def count_work(self, num_draws: int, num_rounds: int) -> tuple[int, int]:
        """The calls of one prediction and of so many calls of `draw`, and the pixels of all of them."""
        calls = pixels = 0
        for level, cut in zip(self.levels, self.tiles, strict=True):
            again = level.guide is not None  # the grid's own pixels, at last
            sweeps = 1 + again + num_draws * (num_rounds + again)
            calls += sweeps * len(cut)
            pixels += sweeps * sum(tile.side**2 for tile in cut)
        return calls, pixels

    def draw(self, generator: np.random.Generator, *, num_rounds: int, temperature: float) -> np.ndarray:
        """Draws a sample by rounds, float32 (H, W, C) in [0, 1], known pixels kept."""

        def fill(image, known, wanted, cut):
            order = generator.permutation(np.flatnonzero(wanted))
            ends = [round(len(order) * autoregressive.share_known(r, num_rounds)) for r in range(num_rounds)]
            for r, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                reached = np.zeros(known.shape, bool)
                reached.flat[order[start:end]] = True
                noise = np.zeros_like(image)
                noise[reached] = generator.standard_normal(noise[reached].shape, np.float32)
                module = self.model.module
                noise *= np.float32(autoregressive.find_noise_scale(module, r, num_rounds, temperature))
                image, _ = self.sweep(image, known, reached, cut, noise=noise)
                known = known | reached
            return image, None

        return self.climb(fill, is_mean=False)[0]

    def climb(self, fill: Callable, *, is_mean: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Completes level by level from the coarsest; `fill(image, known, wanted, tiles)` does one.

        Returns:
          float32 (H, W, C), known pixels kept; and standard deviations, where there are.
        """
        level, cut = self.levels[-1], self.tiles[-1]
        values, scale = fill(level.image, level.known, ~level.known, cut)
        for level, cut in zip(self.levels[-2::-1], self.tiles[-2::-1], strict=True):
            guide, missing = level.guide, ~level.known
            # The coarse answer at the missing pixels alone: a large picture has few of them.
            coarse = pyramid.enlarge(values, missing.shape)[missing]
            coarse_scale = None
            if scale is not None:
                coarse_scale = level.weight[missing] * pyramid.enlarge(scale, missing.shape)[missing]
            # On the guide's grid it is context of all other missing pixels.
            context = level.image.copy()
            context[guide] = coarse[guide[missing]]
            values, scale = fill(context, level.known | guide, missing & ~guide, cut)
            # Then the grid's own pixels are answered from these.
            values, guide_scale = self.sweep(values, ~guide, guide, cut)
            if is_mean:
                mean = values[missing]
                values[missing] = mean + level.share[missing] * (coarse - mean)
            if scale is not None and coarse_scale is not None:
                variance = scale[missing] ** 2 + guide_scale[missing] ** 2 + coarse_scale**2
                scale[missing] = np.sqrt(variance)
        return values, scale

    def sweep(self, image, known, wanted, cut, *, noise=None) -> tuple[np.ndarray, np.ndarray | None]:
        """Answers the wanted pixels of an image (H, W, C), which are unknown, from the known ones.

        `noise`, in standard deviations, is added to the mean. Returns the image with the answers in [0, 1];
        and their standard deviation, 0 elsewhere, or None.
        """
        values, scale = image.copy(), None
        due = [tile for tile in cut if wanted[tile.core].any()]
        self.progress.advance([tile.side**2 for tile in cut if not wanted[tile.core].any()])
        for answered in self.model.answer(due, image, known):
            for tile, answer in answered:
                part, mean = wanted[tile.core], answer.samples
                if noise is not None:
                    mean = mean + autoregressive.color_noise(noise[tile.core], answer)
                values[tile.core][part] = np.clip(mean, 0, 1)[part]
                if answer.scale is not None:
                    scale = np.zeros_like(values) if scale is None else scale
                    scale[tile.core][part] = answer.scale[part]
            self.progress.advance([tile.side**2 for tile, _ in answered])
        return values, scale


@dataclasses.dataclass(frozen=True, eq=False)
class TileModel:
    """A model that answers tiles: one in a call, or as many at once as there are devices to share them.

    Attributes:
      module: Flax module with `tile_margin`.
      variables: its parameters and other collections.
      mesh: of the devices that share tiles.
    """

    module: nn.Module
    variables: Any
    mesh: jax.sharding.Mesh

    @classmethod
    def make(cls, module: nn.Module, variables, limits: Limits) -> "TileModel":
        """Takes all local devices, or on a CPU as many as have the memory for a tile each."""
        devices, side = jax.local_devices(), max(limits.tile_sides)
        if devices[0].platform == "cpu":
            fitting = sizes.find_num_bytes(limits) // module.completion_bytes((side, side))
            devices = devices[: max(1, fitting)]
        return cls(module, variables, device_mesh.make_mesh(devices=devices))

    @functools.cached_property  # one tile alone needs no copies
    def shared_variables(self) -> Any:
        """`variables` on each device of the mesh."""
        return jax.device_put(self.variables, device_mesh.replicated(self.mesh))

    def answer(
        self, due: list[Tile], image: np.ndarray, known: np.ndarray
    ) -> Iterator[list[tuple[Tile, Completion]]]:
        """Answers tiles of one side from the known pixels.

        Args:
          image: float32 (H, W, C), any value where unknown.

        Yields:
          The tiles of each call, in their order, with the answers for their cores: (H, W, C), and so on.
        """
        count = 1 if len(due) == 1 else self.mesh.size
        for first in range(0, len(due), count):
            group = due[first : first + count]
            # One size of calls is one program: the last group is filled up.
            filled = group + group[-1:] * (count - len(group))
            completion = jax.device_get(self._ask(filled, image, known))
            yield [
                (tile, jax.tree.map(lambda x, i=index, tile=tile: tile.cut_core(x[0, i]), completion))
                for index, tile in enumerate(group)
            ]

    def _ask(self, group, image, known):
        """The model's answers, with an axis for one sample in front."""
        masks = np.concatenate([tile.cut(known[..., None]) for tile in group])
        images = np.concatenate([tile.cut(image) for tile in group])
        inside = np.concatenate([tile.cut_inside(known.shape) for tile in group])
        batch, variables = (np.where(masks, images, np.float32(0)), masks, inside), self.variables
        if len(group) > 1:
            variables = self.shared_variables
            batch = jax.device_put(batch, device_mesh.batched(self.mesh))
        key = jax.random.key(0)  # nothing is drawn without a latent variable
        return predict.complete_batch(key, self.module, variables, *batch[:2], num_samples=1, inside=batch[2])
