"""A model that answers tiles: one in a call, or as many at once as there are devices to share them."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from ifanp_jax.inference import predict
from ifanp_jax.inference.limits import Limits, find_num_bytes
from ifanp_jax.inference.tiles import Tile
from ifanp_jax.runtime import device_mesh


class TileAnswer(NamedTuple):
    """What a model says of the core of a tile, all float32; None as in `models.outputs.Completion`.

    Attributes:
      mean: (H, W, C).
      scale: (H, W, C), standard deviations, or None.
      cholesky: (H, W, C, C), factor of a pixel's covariance, or None.
      distribution: as of `Completion`.
    """

    mean: np.ndarray
    scale: np.ndarray | None
    cholesky: np.ndarray | None
    distribution: str


@dataclasses.dataclass(frozen=True, eq=False)
class TileModel:
    """A model with its variables where they are needed.

    Attributes:
      model: Flax module with `tile_margin`.
      variables: its parameters and other collections.
      mesh: of the devices that share tiles.
    """

    model: nn.Module
    variables: Any = dataclasses.field(repr=False)
    mesh: jax.sharding.Mesh

    @classmethod
    def make(cls, model: nn.Module, variables, limits: Limits) -> "TileModel":
        """Takes all local devices, or on a CPU as many as have the memory for a tile each.

        Args:
          model: says what a tile costs by `completion_bytes`.
          variables: its parameters and other collections.
          limits: of memory, and the sides of the tiles.
        """
        devices, side = jax.local_devices(), max(limits.tile_sides)
        if devices[0].platform == "cpu":
            devices = devices[: max(1, find_num_bytes(limits) // model.completion_bytes((side, side)))]
        return cls(model, variables, device_mesh.make_mesh(devices=devices))

    @functools.cached_property  # one tile alone needs no copies
    def shared_variables(self) -> Any:
        """`variables` on each device of the mesh."""
        return jax.device_put(self.variables, device_mesh.replicated(self.mesh))

    def answer(
        self, tiles: list[Tile], image: np.ndarray, known: np.ndarray
    ) -> Iterator[list[tuple[Tile, TileAnswer]]]:
        """Answers tiles of one side from the known pixels.

        Args:
          tiles: of the picture.
          image: float32 (H, W, C), any value where unknown.
          known: bool (H, W).

        Yields:
          The tiles of each call with their answers, in their order.
        """
        count = 1 if len(tiles) == 1 else self.mesh.size
        for first in range(0, len(tiles), count):
            group = tiles[first : first + count]
            # One size of calls is one program: the last group is filled up.
            filled = group + group[-1:] * (count - len(group))
            completion = jax.device_get(self._ask(filled, image, known))
            yield [(tile, _cut_core(completion, index, tile)) for index, tile in enumerate(group)]

    def _ask(self, tiles, image, known):
        """The model's answers, with an axis for one sample in front."""
        masks = np.concatenate([tile.cut(known[..., None]) for tile in tiles])
        images = np.concatenate([tile.cut(image) for tile in tiles])
        batch = (
            np.where(masks, images, np.float32(0)),
            masks,
            np.concatenate([tile.cut_inside(known.shape) for tile in tiles]),
        )
        variables = self.variables
        if len(tiles) > 1:
            variables = self.shared_variables
            batch = jax.device_put(batch, device_mesh.batched(self.mesh))
        # Nothing is drawn without a latent variable.
        return predict.complete_batch(
            jax.random.key(0), self.model, variables, *batch[:2], num_samples=1, inside=batch[2]
        )


def _cut_core(completion, index, tile):
    parts = (completion.samples, completion.scale, completion.cholesky)
    cores = (None if x is None else tile.cut_core(x[0, index]) for x in parts)
    return TileAnswer(*cores, completion.distribution)
