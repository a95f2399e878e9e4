"""Checkpoints of the training state; the only file that knows Orbax."""

import pathlib
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from ifanp_jax.errors import UserError
from ifanp_jax.state import TrainState


class Checkpoints:
    """The checkpoints of one working directory, newest last.

    Saving is asynchronous and atomic: a step's folder appears under its name once it is complete.
    """

    def __init__(self, workdir: str | pathlib.Path, *, num_kept: int, is_writer: bool):
        """Opens `workdir/checkpoints`; the newest `num_kept` are kept.

        Only a training opens it as writer: that removes what an interrupted save left, and would remove the
        save of another process that is under way.
        """
        self._directory = pathlib.Path(workdir).absolute() / "checkpoints"
        self._checkpointer = ocp.training.Checkpointer(
            self._directory,
            preservation_policy=ocp.training.preservation_policies.LatestN(num_kept),
            cleanup_tmp_directories=is_writer,
        )

    @property
    def latest_step(self) -> int | None:
        """The newest step on disk, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(self, state: TrainState) -> None:
        """Saves in the background; a step that is already there is left as it is."""
        step = int(state.step)
        if step != self.latest_step:
            self._checkpointer.save_async(step, _to_tree(state), force=True)

    def restore(self, abstract_state: TrainState, sharding: jax.sharding.Sharding) -> TrainState:
        """Restores the newest step.

        Args:
          abstract_state: shapes and dtypes, from `jax.eval_shape`.
          sharding: of every array.

        Raises:
          UserError: when there is no checkpoint.
        """
        if self.latest_step is None:
            raise UserError(f"{self._directory} holds no checkpoint; train with this --workdir first.")
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), _to_tree(abstract_state)
        )
        tree = self._checkpointer.load(self.latest_step, abstract)
        return abstract_state.replace(**tree)

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._checkpointer.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def _to_tree(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in ("step", "params", "opt_state", "ema_params")}
