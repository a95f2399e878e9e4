"""The images of each dispatch: on the devices all the time, or read by the host."""

import logging
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.data import streaming
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import dispatch
from ifanp_jax.training.keys import Streams

logger = logging.getLogger(__name__)

RESIDENT_SHARE = 0.25  # of a device's memory, for the training images


def must_stream(config: ConfigDict, images: np.ndarray, mesh: jax.sharding.Mesh) -> bool:
    """Whether the training images are streamed: as configured, else when they do not fit on the devices."""
    if config.data.placement != "auto":
        return config.data.placement == "stream"
    share = images.nbytes / mesh.size
    return bool(device_mesh.agree(share > RESIDENT_SHARE * device_mesh.device_bytes(mesh.local_devices[0])))


def make_feed(
    streams: Streams,
    config: ConfigDict,
    images: np.ndarray,
    dispatches: Iterable[tuple[int, int]],
    *,
    mesh: jax.sharding.Mesh,
    is_streamed: bool,
    num_batches: int = 1,
) -> Iterator[tuple[tuple[int, int], jax.Array]]:
    """Yields each dispatch with the images that `train_steps` takes.

    Args:
      streams: of the run.
      config: the whole configuration.
      images: the training images, uint8 (N, H, W, C) in host memory.
      dispatches: from `dispatch.list_dispatches`.
      mesh: of the devices.
      is_streamed: whether the host reads them batch after batch.
      num_batches: of a step.
    """
    if not is_streamed:
        resident = device_mesh.put_rows(images, mesh)
        yield from ((one, resident) for one in dispatches)
        return
    logger.info("The training images are streamed from the host.")
    list_indices, _ = dispatch.make_sampler(streams, config, len(images))
    dispatches = list(dispatches)
    rows = device_mesh.local_rows(config.train.batch_size, mesh)
    numbers = [(first * num_batches, num_steps * num_batches) for first, num_steps in dispatches]
    batches = streaming.stream(images, list_indices, numbers, rows=rows)
    for one, batch in zip(dispatches, batches, strict=True):
        yield one, device_mesh.put_local_rows(batch, mesh, axis=1)
