"""The key-value store that the processes of a run share.

`jax.distributed` makes one but does not hand it out, so this file, and no other, uses a part of JAX that is
not public. Where a version of JAX has it no longer, runs go on without it (see `peers.watch`).
"""

from typing import Any


class Store:
    """Short texts by name, the same for all processes of a run."""

    def __init__(self, client: Any):
        """Wraps JAX's client."""
        self._client = client

    def write(self, key: str, value: str) -> None:
        """Sets a text; may wait for the network."""
        self._client.key_value_set(key, value, allow_overwrite=True)

    def read(self, folder: str) -> dict[str, str]:
        """All texts below a name, by the last part of theirs; may wait for the network."""
        return {key.rpartition("/")[2]: value for key, value in self._client.key_value_dir_get(folder)}


def find_store() -> Store | None:
    """The store of this run after `jax.distributed.initialize`, or None where this JAX does not have it."""
    try:
        from jax._src import distributed

        client = distributed.global_state.client
        if callable(client.key_value_set) and callable(client.key_value_dir_get):
            return Store(client)
    except (ImportError, AttributeError):
        pass
    return None
