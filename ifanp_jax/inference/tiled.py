"""Pictures of any size, tile by tile, for a model that has a `tile_margin`.

Samples by rounds are those of the whole picture: one random order of its unknown pixels, noise drawn for each
pixel of it, and each round's answers are context of the next one in every tile. So they do not depend on how
the picture is cut, but for the tolerance of the tiles (`tiles`).
"""

import dataclasses

import numpy as np

from ifanp_jax.inference import autoregressive, pyramid
from ifanp_jax.inference import tiles as cutting
from ifanp_jax.inference.progress import Progress
from ifanp_jax.inference.pyramid import Level
from ifanp_jax.inference.tile_model import TileModel
from ifanp_jax.inference.tiles import Tile


@dataclasses.dataclass(frozen=True, eq=False)
class TiledPicture:
    """A picture cut into levels and tiles, ready to be completed once or several times.

    Attributes:
      model: answers its tiles.
      levels: the picture at several sizes, the largest first.
      tiles: of each level.
      progress: of all that is done with it.
    """

    model: TileModel = dataclasses.field(repr=False)
    levels: list[Level] = dataclasses.field(repr=False)
    tiles: list[list[Tile]] = dataclasses.field(repr=False)
    progress: Progress = dataclasses.field(default_factory=Progress, repr=False)

    @classmethod
    def cut(cls, model: TileModel, image, known, depth, *, max_depth, sides, progress=None) -> "TiledPicture":
        """Cuts a picture.

        Args:
          model: that will answer its tiles.
          image: float32 (H, W, C) in [0, 1], 0 where unknown.
          known: bool (H, W).
          depth: of `levels.measure_depth`.
          max_depth: of a pixel that the model completes without a coarser level, pixels.
          sides: of the tiles, see `tiles.choose`.
          progress: of what is done with it; None = one that is its own.
        """
        margin, cell = model.model.tile_margin(), model.model.cell
        made = pyramid.make_levels(image, known, depth, max_depth)
        cuts = [cutting.choose(~level.known, margin=margin, cell=cell, sides=sides) for level in made]
        return cls(model, made, cuts, progress or Progress())

    @property
    def num_tiles(self) -> int:
        """Calls of the model that one pass takes, all levels together."""
        return self.count_work(0, 0)[0]

    @property
    def num_pixels(self) -> int:
        """Pixels of those calls."""
        return self.count_work(0, 0)[1]

    def count_work(self, num_draws: int, num_rounds: int) -> tuple[int, int]:
        """Calls of the model, or of tiles with nothing to do, of `predict` and of so many calls of `draw`.

        Args:
          num_draws: calls of `draw`.
          num_rounds: of each.

        Returns:
          The number of calls, and of their pixels.
        """
        calls = pixels = 0
        for level, cut in zip(self.levels, self.tiles, strict=True):
            again = level.guide is not None  # the grid's own pixels, at last
            sweeps = 1 + again + num_draws * (num_rounds + again)
            calls += sweeps * len(cut)
            pixels += sweeps * sum(tile.side**2 for tile in cut)
        return calls, pixels

    def predict(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Predicted means, float32 (H, W, C), known pixels kept; and standard deviations, where there are."""
        return self._climb(self._sweep, is_mean=True)

    def draw(self, seed: int, sample: int, *, num_rounds: int, temperature: float) -> np.ndarray:
        """Draws a sample by rounds.

        Args:
          seed: with `sample` it decides all draws.
          sample: its number.
          num_rounds: R, as of `rounds.complete_by_rounds`.
          temperature: as of `rounds.complete_by_rounds`.

        Returns:
          float32 (H, W, C) in [0, 1], known pixels kept.
        """
        generator = np.random.default_rng((seed, sample))

        def fill(image, known, wanted, cut):
            order = generator.permutation(np.flatnonzero(wanted))
            ends = [round(len(order) * autoregressive.share_known(r, num_rounds)) for r in range(num_rounds)]
            for r, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                reached = np.zeros(known.shape, bool)
                reached.flat[order[start:end]] = True
                noise = _draw_noise(generator, reached, image.shape[-1])
                noise *= np.float32(
                    autoregressive.find_noise_scale(self.model.model, r, num_rounds, temperature)
                )
                image, _ = self._sweep(image, known, reached, cut, noise)
                known = known | reached
            return image, None

        return self._climb(fill, is_mean=False)[0]

    def _climb(self, fill, *, is_mean):
        """Completes level by level from the coarsest; `fill(image, known, wanted, tiles)` does one."""
        level, cut = self.levels[-1], self.tiles[-1]
        values, scale = fill(level.image, level.known, ~level.known, cut)
        for level, cut in zip(self.levels[-2::-1], self.tiles[-2::-1], strict=True):
            guide, size = level.guide, level.known.shape
            coarse = pyramid.enlarge(values, size)
            coarse_scale = None if scale is None else level.weight * pyramid.enlarge(scale, size)
            context = np.where(guide[..., None], coarse, level.image)
            values, scale = fill(context, level.known | guide, ~level.known & ~guide, cut)
            values, guide_scale = self._sweep(values, ~guide, guide, cut)
            if is_mean:
                values += level.share * (coarse - values)
            if coarse_scale is not None:
                scale = np.sqrt(scale**2 + guide_scale**2 + coarse_scale**2)
        return values, scale

    def _sweep(self, image, known, wanted, cut, noise=None):
        """Answers the wanted pixels from the known ones.

        Args:
          image: float32 (H, W, C), any value where neither known nor wanted.
          known: bool (H, W).
          wanted: bool (H, W), a subset of the pixels that are not known.
          cut: tiles.
          noise: what is added to the mean, in standard deviations; None = nothing.

        Returns:
          The image with the wanted pixels' answers in [0, 1]; and their standard deviation, float32
          (H, W, C), 0 elsewhere, or None.
        """
        values, scale = image.copy(), None
        due, idle = [], []
        for tile in cut:
            (due if wanted[tile.core].any() else idle).append(tile)
        self.progress.advance([tile.side**2 for tile in idle])
        for answered in self.model.answer(due, image, known):
            for tile, answer in answered:
                part, mean = wanted[tile.core], answer.mean
                if noise is not None:
                    mean = mean + autoregressive.color_noise(noise[tile.core], *answer[1:])
                values[tile.core][part] = np.clip(mean, 0, 1)[part]
                if answer.scale is not None:
                    scale = np.zeros_like(values) if scale is None else scale
                    scale[tile.core][part] = answer.scale[part]
            self.progress.advance([tile.side**2 for tile, _ in answered])
        return values, scale


def _draw_noise(generator, pixels, channels):
    """Normal noise (H, W, C) of unit variance where `pixels`, bool (H, W), are True."""
    noise = np.zeros((*pixels.shape, channels), np.float32)
    noise[pixels] = generator.standard_normal((int(pixels.sum()), channels), np.float32)
    return noise
