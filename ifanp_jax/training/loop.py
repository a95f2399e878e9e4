"""The training loop. It names no model and no way of training."""

import contextlib
import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ifanp_jax import configuration
from ifanp_jax.data import masks
from ifanp_jax.data.dataset import Dataset, describe_images
from ifanp_jax.errors import UserError
from ifanp_jax.inference.model import Model
from ifanp_jax.models import parameters
from ifanp_jax.runtime import device_mesh, heartbeat, signals
from ifanp_jax.training import dispatch, init_from, runs
from ifanp_jax.training.checkpoint import Checkpoints
from ifanp_jax.training.log import MetricLog, is_due
from ifanp_jax.training.runs import Run

logger = logging.getLogger(__name__)

MAX_BATCH_POSITION = 2**32  # positions in the data are uint32

Validate = Callable[[Run], dict[str, float]]


def run(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    dataset: Dataset,
    *,
    allowed_changes: Sequence[str] = (),
    validate: Validate | None = None,
    read_source: Callable[[str], Model] = init_from.read_source,
    wrap_steps: Callable[[Callable], Callable] = lambda train_steps: train_steps,
) -> Run:
    """Trains to `config.train.num_steps`, from the newest checkpoint of `workdir` or from the start.

    SIGTERM and SIGINT, where `signals.install` was called, save the step under way.

    Args:
      config: whole; locked, so that a field which does not exist cannot be set later.
      workdir: of this run; made where missing. All processes of a run must see the same one.
      dataset: images in host memory; the training part moves to the devices as uint8, or is streamed.
      allowed_changes: fields that may differ from the run so far, see `configuration.changes`.
      validate: (run) -> metrics by name, called every `config.train.validate_every` steps.
      read_source: `config.train.init_from` -> the model that a fresh start takes its parameters from; a
        resumed run never calls it.
      wrap_steps: `train_steps` -> what is called in its place, to watch or to change what steps do.

    Returns:
      The run with its final state, this process's copy of it.

    Raises:
      UserError: when a value cannot work, the directory holds another run or damaged checkpoints or cannot
        be written, the devices cannot share a batch or hold a step, or the loss is not finite.
      SystemExit: after a signal, once its step is on disk.
    """
    workdir, streams = pathlib.Path(workdir), dispatch.make_streams(config.seed)
    mesh = device_mesh.make_mesh(batch_size=config.train.batch_size)
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals.deferred())
        # What can be refused is refused before anything is made.
        new = _make_checked(config, workdir, dataset, mesh, allowed_changes)
        # The state is that of the newest checkpoint, or a fresh one.
        checkpoints = stack.enter_context(runs.open_checkpoints(workdir, config, is_writer=True))
        current, old_record = _begin(streams.init, new, checkpoints, mesh, read_source)
        record = runs.make_record(config, new.image_shape) | describe_images(dataset.train)
        runs.check_same_images(workdir, old_record or record, record, allowed_changes=allowed_changes)
        _tell_start(current, workdir, dataset, mesh)
        # Nothing waits for a result but the log, one dispatch late.
        train_steps, feed = _make_steps(current, dataset, mesh, streams)
        dispatches = dispatch.run_dispatches(wrap_steps(train_steps), current.state, feed)
        log = stack.enter_context(MetricLog(current, workdir, record=old_record))
        saver = Saver(checkpoints, record, mesh, config.train.checkpoint_minutes)
        current, request = _do_steps(current, dispatches, log, saver, validate)
        heartbeat.report_progress(0)  # from here on no step is due
        if request.signal:
            checkpoints.wait()
            logger.warning("Saved step %d; the same command goes on from there.", current.num_steps_done)
            raise SystemExit(signals.exit_status(request.signal))
    return _first_copy(current)


class Request(NamedTuple):
    """What the processes of a run ask for after a dispatch, in numbers, so that they agree on the largest.

    Attributes:
      signal: number of the signal that ends the run; 0 = none.
      must_save: 1 where a checkpoint is wanted now.
    """

    signal: int = 0
    must_save: int = 0


class Saver:
    """Knows when a run must be saved, and saves it."""

    def __init__(self, checkpoints: Checkpoints, record: dict, mesh: jax.sharding.Mesh, minutes: float):
        """Starts its clock; `minutes` lie between two checkpoints at most, and each keeps the record."""
        self._checkpoints, self._record = checkpoints, record
        self._find_largest, self._clock = device_mesh.make_find_largest(mesh), SaveClock(minutes)

    def ask(self) -> Request:
        """What any process asks for after this dispatch; each of them calls it."""
        must_save = self._clock.is_late() or self._checkpoints.must_save_again()
        return Request(*self._find_largest((signals.received(), int(must_save))))

    def save(self, run: Run, log: MetricLog) -> None:
        """Saves the state of a run and what its log goes on from.

        Raises:
          UserError: when a value is not finite: such a state must not replace one that can be used.
        """
        step = run.num_steps_done
        if not is_finite(run.state):
            raise UserError(
                f"The parameters or the optimiser's state are not finite after step {step} (seed "
                f"{run.config.seed}), so they are not saved; {run.step.remedy}, and go on from the last "
                "checkpoint in the workdir."
            )
        self._checkpoints.save(step, run.state, self._record | log.record)
        self._clock.restart()


class SaveClock:
    """Says when the last checkpoint is too old; only the first process does."""

    def __init__(self, minutes: float, *, clock: Callable[[], float] = time.monotonic):
        """Starts now; `minutes` lie between two checkpoints at most, 0 = never."""
        self._seconds, self._clock = 60 * minutes, clock
        self.restart()

    def restart(self) -> None:
        """A checkpoint was made, or asked for."""
        self._saved_at = self._clock()

    def is_late(self) -> bool:
        """Whether a checkpoint is wanted; said once, since several processes answer a dispatch later."""
        is_late = self._seconds > 0 and self._clock() - self._saved_at > self._seconds
        if not (is_late and device_mesh.is_first_process()):
            return False
        self.restart()
        return True


def _do_steps(
    current: Run, dispatches: Iterable, log: MetricLog, saver: Saver, validate: Validate | None
) -> tuple[Run, Request]:
    """The run after its last dispatch, and the request that ended it."""
    config, request = current.config.train, Request()
    for first, count, state, metrics in dispatches:
        step, current = first + count, dataclasses.replace(current, state=state)
        # 1. The metrics of the dispatch before, while the device does this one.
        log.add(first, metrics)
        heartbeat.report_progress(step)
        # 2. What is due, or what a process asks for.
        request = saver.ask()
        must_validate = validate is not None and is_due(step, config.validate_every, config.num_steps)
        must_save = any(request) or any(is_due(step, period, config.num_steps) for period in _periods(config))
        if must_save or must_validate:
            log.flush()
            if must_validate:
                log.write(step, validate(_first_copy(current)))
            if must_save:
                saver.save(current, log)
            log.restart_clock()
        # 3. The end after a signal.
        if request.signal:
            break
    return current, request


def _make_checked(config, workdir, dataset, mesh, allowed_changes) -> Run:
    """The run without a state, once everything is checked that can be refused before anything is made."""
    configuration.check(config)
    image_shape = runs.trained_shape(config, dataset)
    device_mesh.check_batch_size(config.train.batch_size, mesh)
    runs.check_same_run(workdir, config, image_shape, allowed_changes=allowed_changes)
    new = runs.make(config, image_shape)
    check_length(config, new.step.num_batches)
    # Drawn in the abstract: a mask file of another size is told before anything is written.
    sample_mask, shape = masks.make_sampler(config.mask), (config.train.batch_size, *image_shape[:2])
    jax.eval_shape(lambda key: sample_mask(key, shape), jax.random.key(0))
    return new


def _begin(key, new, checkpoints, mesh, read_source) -> tuple[Run, dict]:
    """The run with the state that it goes on from, and the record of that checkpoint; {} at the start."""
    replicated = device_mesh.replicated(mesh)
    # Compiled, since op by op it takes seconds; traced once for the shapes and the state.
    make_state = jax.jit(
        lambda key, variables: new.step.init(key, new.image_shape, variables=variables),
        out_shardings=replicated,
    )
    restored = checkpoints.restore(jax.eval_shape(make_state, key, None), replicated)
    if restored:
        state, old_record = restored
    else:
        name = new.config.train.init_from
        given = init_from.take_variables(key, new, read_source(name)) if name else None  # None = drawn
        state, old_record = make_state(key, given), {}
    return dataclasses.replace(new, state=state), old_record


def _tell_start(run, workdir, dataset, mesh):
    """Writes `run.json`, and says what begins."""
    if device_mesh.is_first_process():
        runs.write(workdir, run.config, run.image_shape)
    done, wanted = run.num_steps_done, run.config.train.num_steps
    if done:
        logger.info("Resumed %s at step %d.", workdir, done)
    else:
        logger.info("Fresh start in %s.", workdir)
    logger.info(
        "%s on %s: %s parameters, %d training images %s, %d x %s.",
        run.config.model.name,
        dataset.name,
        f"{parameters.count_parameters(run.variables['params']):,}",
        len(dataset.train),
        "x".join(map(str, run.image_shape)),
        mesh.size,
        mesh.devices.flat[0].device_kind,
    )
    if done >= wanted:
        logger.info("Nothing to train: step %d of %d is done.", done, wanted)


def _make_steps(run, dataset, mesh, streams):
    """The compiled steps, and the feed of all dispatches that are left."""
    config = run.config
    periods = (*_periods(config.train), config.train.validate_every)
    dispatches = dispatch.list_dispatches(
        run.num_steps_done,
        config.train.num_steps,
        steps_per_dispatch=dispatch.choose_steps_per_dispatch(run, periods),
        periods=periods,
    )
    is_streamed = dispatch.must_stream(config, dataset.train, mesh)
    options = {"mesh": mesh, "is_streamed": is_streamed}
    train_steps = dispatch.make_train_steps(streams, run, num_images=len(dataset.train), **options)
    feed = dispatch.make_feed(streams, run, dataset.train, dispatches, **options)
    return dispatch.with_memory_check(train_steps, config.train.batch_size, mesh), feed


def check_length(config: ConfigDict, num_batches: int) -> None:
    """Raises a UserError when the positions in the data would not fit into 32 bits."""
    images = config.train.batch_size * num_batches
    if config.train.num_steps * images > MAX_BATCH_POSITION:
        raise UserError(
            f"config.train.num_steps is {config.train.num_steps} with {images} images per step, but a run "
            f"can see at most {MAX_BATCH_POSITION:,} images; choose at most "
            f"config.train.num_steps={MAX_BATCH_POSITION // images}."
        )


@jax.jit
def is_finite(tree: Any) -> jax.Array:
    """Whether every value of a tree of arrays is finite."""
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))


def _periods(config):
    """Steps between two checkpoints, and between two that are kept for ever."""
    return config.checkpoint_every, config.keep_every


def _first_copy(run):
    return dataclasses.replace(run, state=device_mesh.first_copy(run.state))
