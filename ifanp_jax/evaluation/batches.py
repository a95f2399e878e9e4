"""Images measured in batches of one size, so that one compilation serves all; local devices share a batch."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from ifanp_jax.runtime import device_mesh


def measure(
    measure_batch: Callable[[Any, jax.Array, jax.Array], dict[str, jax.Array]],
    variables: Any,
    images: np.ndarray,
    contexts: np.ndarray,
    *,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Measures images in batches and joins what is found.

    Args:
      measure_batch: called with the variables, uint8 (B, H, W, C) and bool (B, H, W, 1); answers (B, ...) by
        name, each image for itself.
      variables: of the model; each device gets them.
      images: uint8 (N, H, W, C).
      contexts: bool (N, H, W, 1), True = observed.
      batch_size: B at most, but one image for each device; the last batch is filled up with images that do
        not count.

    Returns:
      (N, ...) by name.
    """
    mesh = device_mesh.make_mesh(devices=jax.local_devices())
    variables = jax.device_put(variables, device_mesh.replicated(mesh))
    batch_size = max(1, batch_size // mesh.size) * mesh.size
    found = []
    for image, mask, size in _padded(images, contexts, batch_size):
        batch = jax.device_put((image, mask), device_mesh.batched(mesh))
        values = jax.device_get(measure_batch(variables, *batch))
        found.append({name: value[:size] for name, value in values.items()})
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def _padded(images, contexts, batch_size) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Batches of one size, and how many images of each count."""
    for start in range(0, len(images), batch_size):
        image, mask = images[start : start + batch_size], contexts[start : start + batch_size]
        padding = ((0, batch_size - len(image)), (0, 0), (0, 0), (0, 0))
        yield np.pad(image, padding), np.pad(mask, padding), len(image)
