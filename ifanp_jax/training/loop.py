"""The training loop. It names no model and no way of training."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Sequence

import jax
from ml_collections import ConfigDict

from ifanp_jax import configuration
from ifanp_jax.data.dataset import Dataset, describe_images
from ifanp_jax.models import parameters
from ifanp_jax.runtime import device_mesh, heartbeat, signals
from ifanp_jax.training import dispatch, guards, init_from, keys, runs
from ifanp_jax.training import feed as feeds
from ifanp_jax.training.guards import SaveClock, Wish, is_due
from ifanp_jax.training.log import MetricLog
from ifanp_jax.training.runs import Run

logger = logging.getLogger(__name__)

Validate = Callable[[Run], dict[str, float]]
ReadSource = Callable[[str], Run]


def run(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    dataset: Dataset,
    *,
    allowed_changes: Sequence[str] = (),
    validate: Validate | None = None,
    read_source: ReadSource = init_from.read_source,
    wrap_steps: Callable[[Callable], Callable] = lambda train_steps: train_steps,
) -> Run:
    """Trains to `config.train.num_steps`, from the newest checkpoint of `workdir` or from the start.

    SIGTERM and SIGINT, where `interruption.install` was called, save the step under way.

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
    workdir, streams = pathlib.Path(workdir), keys.make_streams(config.seed)
    mesh = device_mesh.make_mesh(batch_size=config.train.batch_size)
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals.deferred())
        new = _check(config, workdir, dataset, mesh, allowed_changes)
        checkpoints = stack.enter_context(runs.open_checkpoints(workdir, config, is_writer=True))
        record = runs.make_record(config, new.image_shape) | describe_images(dataset.train)
        current, old_record = _begin(
            new, workdir, checkpoints, record, mesh, streams, allowed_changes, read_source
        )
        _tell_start(current, dataset, mesh)
        train_steps, feed = _make_steps(current, dataset, mesh, streams)
        log = stack.enter_context(MetricLog(current, workdir, record=old_record))
        current, wish = _do_steps(
            current, wrap_steps(train_steps), feed, log, checkpoints, record, guards.make_vote(mesh), validate
        )
        heartbeat.report_progress(0)  # from here on no step is due
        if wish.signal:
            checkpoints.wait()
            logger.warning("Saved step %d; the same command goes on from there.", current.num_steps_done)
            raise SystemExit(signals.exit_status(wish.signal))
    return _first_copy(current)


def _do_steps(current, train_steps, feed, log, checkpoints, record, vote, validate) -> tuple[Run, Wish]:
    """The run after its last dispatch, and the wish that ended it."""
    config, wish = current.config.train, Wish(signal=0, must_save=False)
    clock = SaveClock(config.checkpoint_minutes)
    # The order of a dispatch: 1. steps, 2. metrics of the dispatch before, 3. what the processes wish,
    # 4. validation where due, 5. checkpoint where due or wished, 6. the end after a signal.
    for first, count, state, metrics in dispatch.run_dispatches(train_steps, current.state, feed):
        step, current = first + count, dataclasses.replace(current, state=state)
        log.add(first, metrics)
        heartbeat.report_progress(step)
        wish = vote(Wish(signals.received(), clock.is_late() or checkpoints.must_save_again()))
        must_validate = validate is not None and is_due(step, config.validate_every, config.num_steps)
        must_save = any(wish) or any(is_due(step, period, config.num_steps) for period in _periods(config))
        if must_save or must_validate:
            log.flush()
            if must_validate:
                log.write(step, validate(_first_copy(current)))
            if must_save:
                guards.check_finite_state(step, state, current)
                checkpoints.save(step, state, record | log.record)
                clock.restart()
            log.restart_clock()
        if wish.signal:
            break
    return current, wish


def _check(config, workdir, dataset, mesh, allowed_changes) -> Run:
    """Everything that can be refused before anything is made; the run, still without a state."""
    configuration.check(config)
    image_shape = runs.trained_shape(config, dataset)
    device_mesh.check_batch_size(config.train.batch_size, mesh)
    runs.check_same_run(workdir, config, image_shape, allowed_changes=allowed_changes)
    new = runs.make(config, image_shape)
    guards.check_length(config, new.step.num_batches)
    guards.check_masks(config, image_shape)
    return new


def _begin(
    new, workdir, checkpoints, record, mesh, streams, allowed_changes, read_source
) -> tuple[Run, dict]:
    """The run with the state that it goes on from, and the record of that checkpoint; {} at the start."""
    replicated = device_mesh.replicated(mesh)
    # Compiled, since op by op it takes seconds; traced once for the shapes and the state.
    make_state = jax.jit(
        lambda key, variables: new.step.init(key, new.image_shape, variables=variables),
        out_shardings=replicated,
    )
    restored = checkpoints.restore(jax.eval_shape(make_state, streams.init, None), replicated)
    if restored is None:
        logger.info("Fresh start in %s.", workdir)
        state, old_record = make_state(streams.init, _read_variables(streams.init, new, read_source)), {}
    else:
        state, old_record = restored
        runs.check_same_images(workdir, old_record, record, allowed_changes=allowed_changes)
        logger.info("Resumed %s at step %d.", workdir, state.step)
    if device_mesh.is_first_process():
        runs.write(workdir, new.config, new.image_shape)
    return dataclasses.replace(new, state=state), old_record


def _read_variables(key, new, read_source):
    """What the model starts with where `config.train.init_from` says it; None = drawn."""
    name = new.config.train.init_from
    if not name:
        return None
    return init_from.take_variables(key, new, read_source(name))


def _tell_start(run, dataset, mesh):
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
    done, wanted = run.num_steps_done, run.config.train.num_steps
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
    is_streamed = feeds.must_stream(config, dataset.train, mesh)
    train_steps = dispatch.make_train_steps(
        streams, run, mesh=mesh, num_images=len(dataset.train), is_streamed=is_streamed
    )
    feed = feeds.make_feed(
        streams,
        config,
        dataset.train,
        dispatches,
        mesh=mesh,
        is_streamed=is_streamed,
        num_batches=run.step.num_batches,
    )
    return dispatch.with_memory_check(train_steps, config.train.batch_size, mesh), feed


def _periods(config):
    """Steps between two checkpoints, and between two that are kept for ever."""
    return config.checkpoint_every, config.keep_every


def _first_copy(run):
    return dataclasses.replace(run, state=device_mesh.first_copy(run.state))
