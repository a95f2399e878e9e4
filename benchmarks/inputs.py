"""What is measured: a configuration as it is trained, for how long, and random images."""

import dataclasses

import jax
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import configuration
from ifanp_jax.data import sampling
from ifanp_jax.errors import UserError
from ifanp_jax.training import dispatch, runs

KNOWN_SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1)}
OBSERVED_SHARE = 0.4


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long and how large the measurements are.

    Attributes:
      num_runs: timed calls of each function.
      num_turns: of the variants of the training step.
      least_seconds: of one timed call: shorter ones are repeated, and waited for once.
      num_images: random training images.
      comparison_shape: (B, side, D) of the comparisons with other implementations.
      scaling_sides: sides of the images of the training step, in pixels.
      scaling_batch_sizes: its batches.
      device_counts: numbers of devices that share it.
      picture_sizes: (H, W) of the pictures that are completed.
      max_answered_pixels: of those completed 8 times.
      max_biharmonic_pixels: of those completed by biharmonic inpainting.
    """

    num_runs: int = 5
    num_turns: int = 12
    least_seconds: float = 0.05
    num_images: int = 10_000
    comparison_shape: tuple[int, int, int] = (64, 32, 64)
    scaling_sides: tuple[int, ...] = (16, 32, 64, 128)
    scaling_batch_sizes: tuple[int, ...] = (16, 64, 256)
    device_counts: tuple[int, ...] = (1, 2, 4, 8)
    picture_sizes: tuple[tuple[int, int], ...] = ((256, 256), (512, 512), (1024, 1024))
    max_answered_pixels: int = 512 * 512
    max_biharmonic_pixels: int = 512 * 512


FULL_EFFORT = Effort()
LARGE_PICTURES = {
    "picture_sizes": (*FULL_EFFORT.picture_sizes, (3000, 4000)),
    "max_answered_pixels": 1024 * 1024,
    "max_biharmonic_pixels": 1024 * 1024,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What every section measures.

    Attributes:
      run: a training that has not begun.
      gemm_rate: of one large matrix product, GFLOP/s.
      effort: how long and how large.
    """

    run: runs.Run
    gemm_rate: float
    effort: Effort = FULL_EFFORT


def prepare(config: ConfigDict) -> ConfigDict:
    """The configuration as it is trained: with the fields of its protocol, and checked.

    Args:
      config: as in `configs/default.py`; kept.

    Raises:
      UserError: when a value cannot work.
    """
    config = config.copy_and_resolve_references()
    configuration.apply_protocol(config)
    configuration.check(config)
    return config


def get_image_shape(config: ConfigDict, *, image_size: int, channels: int) -> tuple[int, int, int]:
    """(H, W, C) as given, else as configured, else of the data set's name.

    Args:
      config: from `prepare`.
      image_size: side in pixels; 0 = not given.
      channels: 1 or 3; 0 = not given.

    Raises:
      UserError: when none of these tells it.
    """
    known = KNOWN_SHAPES.get(config.data.name, (0, 0, 0))
    side = image_size or config.data.image_size or known[0]
    channels = channels or config.data.channels or known[2]
    if not side or channels not in (1, 3):
        raise UserError(
            f"The configuration does not tell the size of the images of {config.data.name!r}; give "
            "--image_size=PIXELS and --channels=1 or 3."
        )
    return side, side, channels


def change_run(
    run: runs.Run, *, image_shape: tuple[int, int, int] | None = None, **fields: object
) -> runs.Run:
    """The same training with other images, or with other values of `config.train`.

    Args:
      run: that has not begun.
      image_shape: (H, W, C); None = as it is.
      **fields: values by the name of the field.
    """
    config = run.config.copy_and_resolve_references()
    config.train.update(fields)
    return runs.make(config, image_shape or run.image_shape)


def count_steps_per_dispatch(run: runs.Run) -> int:
    """Steps per dispatch, as `loop.run` chooses them."""
    train = run.config.train
    periods = (train.checkpoint_every, train.keep_every, train.validate_every)
    return dispatch.choose_steps_per_dispatch(_with_shapes(run), periods)


def count_units() -> int:
    """Devices that a product runs on each for itself: those of a CPU share its cores."""
    return 1 if jax.default_backend() == "cpu" else jax.device_count()


def count_step_flops(run: runs.Run) -> int:
    """Operations of one training step on the whole batch."""
    return dispatch.count_step_flops(_with_shapes(run))


def _with_shapes(run):
    return dataclasses.replace(run, state=runs.abstract_state(run))


def random_images(num_images: int, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Random bytes, uint8 (N, H, W, C).

    Args:
      num_images: N.
      image_shape: (H, W, C).
    """
    return np.random.default_rng(0).integers(0, 256, (num_images, *image_shape), np.uint8)


def random_batch(batch_size: int, image_shape: tuple[int, int, int]) -> sampling.Batch:
    """Random images of which OBSERVED_SHARE of the pixels are observed.

    Args:
      batch_size: B.
      image_shape: (H, W, C).
    """
    image_key, mask_key = jax.random.split(jax.random.key(0))
    shape = (batch_size, *image_shape)
    return sampling.Batch(
        image=jax.random.uniform(image_key, shape),
        mask=jax.random.bernoulli(mask_key, OBSERVED_SHARE, (*shape[:3], 1)),
    )
