"""Training images read by the host, batch after batch, for data that does not fit on the devices.

The images of a step are those that a device would gather (`sampling.batch_indices`), so a stream begins at
any step and has no state of its own to save.
"""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from ifanp_jax.errors import UserError


def stream(
    images: np.ndarray,
    list_indices: Callable[[jax.Array], jax.Array],
    dispatches: Iterable[tuple[int, int]],
    *,
    rows: slice,
    num_threads: int = 2,
    num_prefetched: int = 2,
) -> Iterator[np.ndarray]:
    """Reads the images of each dispatch in threads, ahead of their use.

    Args:
      images: uint8 (N, H, W, C), in memory or memory-mapped.
      list_indices: step -> uint32 (B,), from `sampling.make_sampler`.
      dispatches: (steps done before, number of steps n) each.
      rows: of a batch that this process reads; the others read theirs.
      num_threads: of the reader.
      num_prefetched: dispatches read ahead.

    Yields:
      uint8 (n, B', H, W, C), B' the length of `rows`.
    """
    import grain

    cpu = _cpu()
    indices_of = jax.jit(list_indices)

    def read(dispatch):
        first, num_steps = dispatch
        with jax.default_device(cpu):
            index = np.stack([np.asarray(indices_of(step)) for step in range(first, first + num_steps)])
        return images[index[:, rows]]

    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_prefetched)
    dataset = grain.MapDataset.source(list(dispatches)).map(read)
    return iter(dataset.to_iter_dataset(options))


def _cpu():
    """The host as a device: the indices must not wait behind the training."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise UserError(
            "Streaming also needs JAX's CPU backend: append ',cpu' to the environment variable JAX_PLATFORMS."
        ) from None
