"""What must hold before, while and after steps are done."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ifanp_jax.data import masks
from ifanp_jax.errors import UserError
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training.runs import Run

MAX_BATCH_POSITION = 2**32  # positions in the data are uint32


class Wish(NamedTuple):
    """What the processes of a run want after a dispatch.

    Attributes:
      signal: number of the signal that ends the run; 0 = none.
      must_save: whether a checkpoint is wanted now.
    """

    signal: int
    must_save: bool


def make_vote(mesh: jax.sharding.Mesh) -> Callable[[Wish], Wish]:
    """Returns `vote(wish) -> Wish`, what any process wishes; each calls it after every dispatch.

    Args:
      mesh: of the devices.
    """
    vote = device_mesh.make_vote(mesh)

    def largest(wish):
        signal, must_save = vote((wish.signal, int(wish.must_save)))
        return Wish(signal=signal, must_save=bool(must_save))

    return largest


class SaveClock:
    """Says when the last checkpoint is too old; only the first process does."""

    def __init__(self, minutes: float, *, clock: Callable[[], float] = time.monotonic):
        """Starts now.

        Args:
          minutes: between two checkpoints at most; 0 = never.
          clock: seconds.
        """
        self._seconds, self._clock = 60 * minutes, clock
        self.restart()

    def restart(self) -> None:
        """A checkpoint was made, or wished for."""
        self._saved_at = self._clock()

    def is_late(self) -> bool:
        """Whether a checkpoint is wanted; asked once, since several processes answer a dispatch later."""
        is_late = self._seconds > 0 and self._clock() - self._saved_at > self._seconds
        if is_late and device_mesh.is_first_process():
            self.restart()
            return True
        return False


def is_due(step: int, period: int, num_steps: int) -> bool:
    """At every multiple of the period and at the end; 0 = never."""
    return period > 0 and (step % period == 0 or step == num_steps)


def check_masks(config: ConfigDict, image_shape: tuple[int, int, int]) -> None:
    """Draws masks in the abstract: a mask file of another size is told before anything is written."""
    sample_mask = masks.make_sampler(config.mask)
    shape = (config.train.batch_size, *image_shape[:2])
    jax.eval_shape(lambda key: sample_mask(key, shape), jax.random.key(0))


def check_length(config: ConfigDict, num_batches: int) -> None:
    """Raises a UserError when the positions in the data would not fit into 32 bits."""
    images = config.train.batch_size * num_batches
    if config.train.num_steps * images > MAX_BATCH_POSITION:
        raise UserError(
            f"config.train.num_steps is {config.train.num_steps} with {images} images per step, but a run "
            f"can see at most {MAX_BATCH_POSITION:,} images; choose at most "
            f"config.train.num_steps={MAX_BATCH_POSITION // images}."
        )


def check_finite(step: int, metrics: dict[str, float], run: Run) -> None:
    """Raises a UserError for the first metric that must be finite and is not.

    Args:
      step: that the metrics are of.
      metrics: of one step.
      run: its step says which of them must be finite.
    """
    for name in run.step.finite_metrics:
        if not math.isfinite(metrics[name]):
            facts = ", ".join(
                f"{other} {metrics[other]}" for other in run.step.finite_metrics if other != name
            )
            raise UserError(
                f"The {name} is {metrics[name]} at step {step} ({facts}, seed {run.config.seed}); "
                f"{run.step.remedy}, and go on from the last checkpoint in the workdir."
            )


def check_finite_state(step: int, state: Any, run: Run) -> None:
    """A state that cannot be used must not replace one that can.

    Args:
      step: that it is of.
      state: of the step.
      run: its step says what to do.
    """
    if not is_finite(state):
        raise UserError(
            f"The parameters or the optimiser's state are not finite after step {step} (seed "
            f"{run.config.seed}), so they are not saved; {run.step.remedy}, and go on from the last "
            "checkpoint in the workdir."
        )


@jax.jit
def is_finite(tree: Any) -> jax.Array:
    """Whether every value of a tree of arrays is finite, as a bool scalar."""
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))
