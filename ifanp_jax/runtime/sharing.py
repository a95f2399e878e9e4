"""Work that the devices of a training step split among them, row by row of a batch.

A step announces its mesh while it is traced (`announced`). Everything here changes nothing elsewhere: outside
of such a step, and under a mesh or a manual axis of somebody else, a layer is plain.
"""

import contextvars
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

_announced: contextvars.ContextVar[AbstractMesh | None] = contextvars.ContextVar("announced", default=None)


def announced(function: Callable, mesh: Mesh) -> Callable:
    """`function` for `jit`, whose work the devices of `mesh` split where they can."""

    @functools.wraps(function)
    def with_mesh(*arguments):
        token = _announced.set(mesh.abstract_mesh)
        try:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return function(*arguments)
        finally:
            _announced.reset(token)

    return with_mesh


def split(x: jax.Array) -> jax.Array:
    """Has each device hold an equal part of `x` along its first axis; the same `x` where that cannot be."""
    mesh = _find_mesh(x.shape[0])
    return jax.lax.with_sharding_constraint(x, PartitionSpec(mesh.axis_names)) if mesh else x


def replicate(x: jax.Array) -> jax.Array:
    """Has each device hold all of `x`."""
    return jax.lax.with_sharding_constraint(x, PartitionSpec()) if _find_mesh(0) else x


def by_device(function: Callable[..., jax.Array], common: Any, *arrays: jax.Array) -> jax.Array:
    """`function(common, *arrays)`, each device for its rows alone; for all rows at once where that cannot be.

    In the gradient of `common` the devices add up that gradient, and nothing that was made of it on the way.

    Args:
      function: of what all rows have in common and of arrays; each row of its answer is made of theirs.
      common: tree of arrays.
      *arrays: of one number of rows.
    """
    mesh = _find_mesh(arrays[0].shape[0])
    if not mesh:
        return function(common, *arrays)
    rows = PartitionSpec(mesh.axis_names)
    each = jax.shard_map(
        function,
        in_specs=(PartitionSpec(), *[rows] * len(arrays)),
        out_specs=rows,
        check_vma=False,  # else the devices would add up where `common` first meets rows
    )
    return each(common, *arrays)


def _find_mesh(num_rows: int) -> AbstractMesh | None:
    """The announced mesh where the program runs on all of it and its devices split so many rows equally."""
    mesh = _announced.get()
    if mesh is None or mesh.size == 1 or mesh != jax.sharding.get_abstract_mesh():
        return None
    return None if num_rows % mesh.size else mesh
