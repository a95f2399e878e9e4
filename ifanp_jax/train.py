"""The training loop: state, mesh, compiled step, hooks. It names no model."""

import logging
import math
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import (
    evaluate,
    flops,
    interruption,
    optimizer,
    peers,
    runs,
    sharding,
    state,
    steps,
    writers,
)
from ifanp_jax.data import masks, sampling, streaming
from ifanp_jax.data.dataset import Dataset, describe_images
from ifanp_jax.errors import UserError

logger = logging.getLogger(__name__)

VALIDATION_IMAGES = 256
VALIDATION_FRACTION = 0.4
# A dispatch of an accelerator holds about as many operations: 0.1 to 1 s of it. More steps would only delay
# what happens between dispatches.
DISPATCH_FLOPS = 2e13
MAX_STEPS_PER_DISPATCH = 200
RESIDENT_SHARE = 0.25  # of a device's memory, for the training images
SAVE_NOW = 1  # a wish between dispatches: 0 = none, larger ones are numbers of signals


def make_train_step(
    key: jax.Array,
    config: ConfigDict,
    model,
    tx,
    *,
    mesh: jax.sharding.Mesh,
    num_images: int,
    is_streamed: bool = False,
) -> Callable:
    """Returns the compiled `train_steps(state, images, num_steps) -> (state, metrics)`.

    It makes its batches, does `num_steps` optimiser steps in one dispatch and donates the state; the metrics
    are those of each step, (num_steps,). How steps are cut into dispatches
    changes rounding at most.

    Args:
      key: PRNG key of the run.
      config: the whole configuration.
      model: Flax module.
      tx: the optimiser.
      mesh: of the devices.
      num_images: training images, N.
      is_streamed: `images` are then the steps' own, uint8 (num_steps, B, H, W, C) from `streaming.stream`;
        otherwise all of them, uint8 (M, H, W, C) with M >= N from `sharding.put_rows`.
    """
    _, noise_key = jax.random.split(key)
    list_indices, make_batch = make_sampler(key, config, num_images)
    gather = sharding.make_gather(mesh)
    elbo_step = make_elbo_step(noise_key, config, model, tx)

    def train_steps(state, images, num_steps):
        def step(state, step_images):
            if not is_streamed:
                step_images = gather(images, list_indices(state.step))
            batch = make_batch(step_images, state.step)
            batch = jax.lax.with_sharding_constraint(batch, sharding.batched(mesh))
            return elbo_step(state, batch)

        if num_steps == 1:
            state, metrics = step(state, images[0] if is_streamed else None)
            return state, jax.tree.map(lambda x: x[None], metrics)
        # XLA on CPU runs convolutions in a loop many times slower, and rounds them otherwise: unroll there.
        is_cpu = jax.default_backend() == "cpu"
        return jax.lax.scan(step, state, images if is_streamed else None, length=num_steps, unroll=is_cpu)

    replicated = sharding.replicated(mesh)
    return jax.jit(
        train_steps,
        static_argnums=2,
        donate_argnums=0,
        in_shardings=(replicated, sharding.batched(mesh, axis=int(is_streamed))),
        out_shardings=replicated,
    )


def make_elbo_step(key: jax.Array, config: ConfigDict, model, tx) -> Callable:
    """`steps.make_elbo_step` with the options of the configuration.

    Args:
      key: PRNG key of the latent noise.
      config: the whole configuration.
      model: Flax module.
      tx: the optimiser.
    """
    return steps.make_elbo_step(
        key,
        model,
        tx,
        num_samples=config.objective.num_samples,
        target=config.objective.target,
        kl_weight=config.objective.kl_weight,
        ema_decay=config.train.ema_decay,
    )


def make_sampler(key: jax.Array, config: ConfigDict, num_images: int) -> tuple[Callable, Callable]:
    """`sampling.make_sampler` with the options of the configuration; `key` as for `make_train_step`."""
    data_key, _ = jax.random.split(key)
    return sampling.make_sampler(
        data_key,
        masks.make_sampler(config.mask),
        num_images=num_images,
        batch_size=config.train.batch_size,
    )


def list_dispatches(
    start: int, end: int, *, steps_per_dispatch: int, periods: tuple[int, ...]
) -> Iterator[tuple[int, int]]:
    """Cuts the steps after `start` into dispatches that end at every multiple of each period.

    Args:
      start: steps done.
      end: steps to do in all.
      steps_per_dispatch: at most.
      periods: in steps; 0 = never.

    Yields:
      (steps done before, number of steps).
    """
    while start < end:
        ends = [start + period - start % period for period in periods if period]
        num_steps = min([end, start + steps_per_dispatch, *ends]) - start
        yield start, num_steps
        start += num_steps


def choose_steps_per_dispatch(config: ConfigDict, model, tx, abstract_state, image_shape) -> int:
    """Steps per dispatch: as configured, else 1 on a CPU, and what fills 0.1 to 1 s of an accelerator.

    It follows from the operations of a step, not from a clock, so that a run is cut alike each time.

    Args:
      config: the whole configuration.
      model: Flax module.
      tx: the optimiser.
      abstract_state: shapes and dtypes of the state.
      image_shape: (H, W, C).
    """
    if config.train.steps_per_dispatch:
        return config.train.steps_per_dispatch
    if jax.default_backend() == "cpu":
        return 1
    step_flops = count_step_flops(config, model, tx, abstract_state, image_shape) / jax.device_count()
    periods = (*_checkpoint_periods(config), config.train.validate_every)
    most = max(1, min(MAX_STEPS_PER_DISPATCH, round(DISPATCH_FLOPS / step_flops), *filter(None, periods)))
    # A divisor leaves no remainder, which would be compiled for itself.
    divisor = max(size for size in range(1, most + 1) if math.gcd(*periods) % size == 0)
    return divisor if 2 * divisor >= most else most


def count_step_flops(config: ConfigDict, model, tx, abstract_state, image_shape) -> int:
    """Operations of one training step on the whole batch: matrix products and convolutions.

    Args:
      config: the whole configuration.
      model: Flax module.
      tx: the optimiser.
      abstract_state: shapes and dtypes of the state.
      image_shape: (H, W, C).
    """
    b, (h, w, c) = config.train.batch_size, image_shape
    batch = sampling.Batch(
        image=jax.ShapeDtypeStruct((b, h, w, c), jnp.float32),
        mask=jax.ShapeDtypeStruct((b, h, w, 1), bool),
    )
    return flops.count(make_elbo_step(jax.random.key(0), config, model, tx), abstract_state, batch)


def must_stream(config: ConfigDict, images: np.ndarray, mesh: jax.sharding.Mesh) -> bool:
    """Whether the training images are streamed: as configured, else when they do not fit on the devices."""
    if config.data.placement != "auto":
        return config.data.placement == "stream"
    share = images.nbytes / mesh.size
    return bool(sharding.agree(share > RESIDENT_SHARE * sharding.device_bytes(mesh.local_devices[0])))


def run(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    dataset: Dataset,
    *,
    allowed_changes: Sequence[str] = (),
) -> state.TrainState:
    """Trains to `config.train.num_steps`, from the newest checkpoint of `workdir` or from the start.

    SIGTERM and SIGINT, where `interruption.install` was called, save the step under way.

    Args:
      config: as in `configs/default.py`, already checked.
      workdir: of this run; made where missing. All processes of a run must see the same one.
      dataset: images in host memory; the training part moves to the devices as uint8, or is streamed.
      allowed_changes: fields that may differ from the run so far, see `configuration.changes`.

    Returns:
      The final state, this process's copy of it.

    Raises:
      UserError: when the directory holds another run or damaged checkpoints or cannot be written, the
        devices cannot share a batch or hold a step, or the loss is not finite.
      SystemExit: after a signal, once its step is on disk.
    """
    workdir = pathlib.Path(workdir)
    image_shape = dataset.train.shape[1:]
    mesh = sharding.make_mesh()
    sharding.check_batch_size(config.train.batch_size, mesh)
    runs.check_same_run(workdir, config, image_shape, allowed_changes=allowed_changes)
    _check_masks(config, image_shape)

    init_key, step_key = jax.random.split(jax.random.key(config.seed))
    model, tx, init = runs.make_model(config, image_shape)
    with (
        interruption.deferred(),
        runs.open_checkpoints(workdir, config, is_writer=True) as checkpoints,
    ):
        restored = checkpoints.restore(jax.eval_shape(init, init_key), sharding.replicated(mesh))
        record = runs.make_record(config, image_shape) | describe_images(dataset.train)
        if restored is None:
            make_state = jax.jit(init, out_shardings=sharding.replicated(mesh))  # op by op it takes seconds
            train_state, window = make_state(init_key), ()
            logger.info("Fresh start in %s.", workdir)
        else:
            train_state, old_record = restored
            runs.check_same_images(workdir, old_record, record, allowed_changes=allowed_changes)
            window = old_record.get("metrics_window", ())
            logger.info("Resumed %s at step %d.", workdir, train_state.step)
        if sharding.is_first_process():
            runs.write(workdir, config, image_shape)
        logger.info(
            "%s on %s: %s parameters, %d training images %s, %d x %s.",
            config.model.name,
            dataset.name,
            f"{state.count_parameters(train_state.params):,}",
            len(dataset.train),
            "x".join(map(str, image_shape)),
            mesh.size,
            mesh.devices.flat[0].device_kind,
        )
        start = int(train_state.step)
        if start >= config.train.num_steps:
            logger.info("Nothing to train: step %d of %d is done.", start, config.train.num_steps)
        steps_per_dispatch = choose_steps_per_dispatch(config, model, tx, train_state, image_shape)
        dispatches = list_dispatches(
            start,
            config.train.num_steps,
            steps_per_dispatch=steps_per_dispatch,
            periods=(*_checkpoint_periods(config), config.train.validate_every),
        )
        is_streamed = must_stream(config, dataset.train, mesh)
        train_steps = make_train_step(
            step_key, config, model, tx, mesh=mesh, num_images=len(dataset.train), is_streamed=is_streamed
        )
        train_steps = with_memory_check(train_steps, config.train.batch_size, mesh)
        feed = make_feed(step_key, config, dataset.train, dispatches, mesh=mesh, is_streamed=is_streamed)
        validate = make_validation(config, model, dataset.evaluation[:VALIDATION_IMAGES])
        vote = sharding.make_vote(mesh)
        saved_at = time.monotonic()
        with MetricLog(config, workdir, step=start, window=window) as log:
            for step, new_state in run_dispatches(train_steps, train_state, feed, log):
                train_state = new_state
                peers.report_progress(step)
                is_time = _is_time(saved_at, config.train)
                if is_time:
                    saved_at = time.monotonic()  # wish once: several processes answer a dispatch later
                wish = vote(interruption.received() or SAVE_NOW * (is_time or checkpoints.must_save_again()))
                is_validation = _is_due(step, config.train.validate_every, config)
                is_checkpoint = wish or any(
                    _is_due(step, period, config) for period in _checkpoint_periods(config)
                )
                if is_checkpoint or is_validation:
                    log.flush()
                    if is_validation:
                        log.write(step, validate(sharding.first_copy(train_state)))
                    if is_checkpoint:
                        _check_finite_state(step, train_state, config.seed)
                        checkpoints.save(step, train_state, record | {"metrics_window": log.window})
                        saved_at = time.monotonic()
                    log.restart_clock()
                if wish > SAVE_NOW:
                    break
            else:
                wish = 0
        peers.report_progress(0)  # from here on no step is due
        if wish:
            checkpoints.wait()
            logger.warning("Saved step %d; the same command goes on from there.", step)
            raise SystemExit(interruption.exit_status(wish))
    return sharding.first_copy(train_state)


def with_memory_check(train_steps: Callable, batch_size: int, mesh: jax.sharding.Mesh) -> Callable:
    """Compiles `train_steps` at its first call for each number of steps, and checks that it will fit.

    Args:
      train_steps: from `make_train_step`.
      batch_size: images of a step, over all devices.
      mesh: of the devices.
    """
    programs = {}

    def checked_steps(state, images, num_steps):
        if num_steps not in programs:
            programs[num_steps] = train_steps.lower(state, images, num_steps).compile()
            sharding.check_memory(programs[num_steps], batch_size, mesh)
        return programs[num_steps](state, images)

    return checked_steps


def run_dispatches(
    train_steps: Callable, train_state: state.TrainState, feed: Iterable, log: "MetricLog"
) -> Iterator[tuple[int, state.TrainState]]:
    """Runs the feed, waiting for no result but that of the dispatch before.

    Args:
      train_steps: from `make_train_step`.
      train_state: donated.
      feed: from `make_feed`.
      log: takes the metrics.

    Yields:
      Steps done and the state, which the next dispatch consumes.
    """
    for (first, num_steps), images in feed:
        train_state, metrics = train_steps(train_state, images, num_steps)
        if jax.default_backend() == "cpu" and jax.device_count() > 1:
            jax.block_until_ready(metrics)  # fake devices on few cores deadlock when dispatches overlap
        log.add(first, metrics)
        yield first + num_steps, train_state


def make_feed(
    key: jax.Array,
    config: ConfigDict,
    images: np.ndarray,
    dispatches: Iterable[tuple[int, int]],
    *,
    mesh: jax.sharding.Mesh,
    is_streamed: bool,
) -> Iterator[tuple[tuple[int, int], jax.Array]]:
    """Yields each dispatch with the images that `train_steps` takes.

    Args:
      key: PRNG key of the run, as for `make_train_step`.
      config: the whole configuration.
      images: the training images, uint8 (N, H, W, C) in host memory.
      dispatches: from `list_dispatches`.
      mesh: of the devices.
      is_streamed: whether the host reads them batch after batch.
    """
    if not is_streamed:
        resident = sharding.put_rows(images, mesh)
        yield from ((dispatch, resident) for dispatch in dispatches)
        return
    logger.info("The training images are streamed from the host.")
    list_indices, _ = make_sampler(key, config, len(images))
    dispatches = list(dispatches)
    rows = sharding.local_rows(config.train.batch_size, mesh)
    batches = streaming.stream(images, list_indices, dispatches, rows=rows)
    for dispatch, batch in zip(dispatches, batches, strict=True):
        yield dispatch, sharding.put_local_rows(batch, mesh, axis=1)


def make_validation(config: ConfigDict, model, images: np.ndarray) -> Callable[[state.TrainState], dict]:
    """Returns `validate(state) -> {"val/psnr": ...}` on a few held-out images at one context fraction."""
    evaluate_images = evaluate.make_evaluation(config, model)
    contexts = evaluate.contexts(config.evaluate.seed, "random", VALIDATION_FRACTION, images.shape[:3])

    def validate(train_state):
        values = evaluate_images(train_state.evaluation_params, images, contexts)
        names = ("psnr", "psnr_completed", "psnr_unobserved", "mse", "kl", "log_prob")
        return {f"val/{name}": float(values[name].mean()) for name in names}

    return validate


class MetricLog:
    """Turns metrics into rows one dispatch late, so that the device computes while the host waits.

    A row is the mean over the last `log_every` steps; what a checkpoint finds of the next row, `window`, is
    saved with it, so that a resumed run averages over the same steps.
    """

    def __init__(
        self, config: ConfigDict, workdir: str | pathlib.Path, *, step: int, window: Sequence[dict] = ()
    ):
        """Opens the logs of `workdir` to go on after `step`; only the first process writes.

        Args:
          config: the whole configuration.
          workdir: of the run.
          step: done so far.
          window: metrics of the steps since the last row.
        """
        is_first = sharding.is_first_process()
        self._config = config
        self._schedule = optimizer.learning_rate_schedule(config.train)
        self._writer = writers.MetricWriter(workdir, step=step, is_writer=is_first)
        self._progress = writers.Progress(config.train.num_steps, step=step, is_shown=is_first)
        self._pending = None  # the newest dispatch
        self.window, self._seconds = list(window), []
        self._compiled = set()  # numbers of steps whose program is there: the first time counts compilation
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves out of the speed what was done since the last metrics."""
        self._clock = time.monotonic()

    def add(self, first: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics (n,) of the dispatch after step `first`, and writes those of the one before."""
        previous, self._pending = self._pending, (first, metrics)
        if previous:
            self._write_dispatch(*previous)

    def flush(self) -> None:
        """Writes all that is known."""
        if self._pending:
            self._write_dispatch(*self._pending)
        self._pending = None
        self._writer.flush()

    def write(self, step: int, row: dict[str, float]) -> None:
        """Writes a row of other numbers."""
        self._writer.write(step, row)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._progress.close()
        self._writer.close()

    def _write_dispatch(self, first, metrics):
        metrics = jax.device_get(metrics)
        num_steps = len(metrics["loss"])
        seconds = time.monotonic() - self._clock
        self.restart_clock()
        is_compiled = num_steps in self._compiled
        if not self._compiled:
            logger.info("Compiled and first %d steps in %.1f s.", num_steps, seconds)
        for index in range(num_steps):
            step = first + index + 1
            self.window.append({name: float(values[index]) for name, values in metrics.items()})
            _check_finite(step, self.window[-1], self._config.seed)
            if is_compiled:
                self._seconds.append(seconds / num_steps)
            if _is_due(step, self._config.train.log_every, self._config):
                self._write_row(step)
        self._compiled.add(num_steps)
        self._progress.advance(num_steps)

    def _write_row(self, step):
        averages = _average(self.window)
        row = {f"train/{name}": value for name, value in averages.items()}
        row["train/learning_rate"] = float(self._schedule(step - 1))
        if self._seconds:
            row["train/steps_per_second"] = len(self._seconds) / sum(self._seconds)
            row["train/images_per_second"] = row["train/steps_per_second"] * self._config.train.batch_size
        self._writer.write(step, row)
        self._progress.show(step, row)
        self.window, self._seconds = [], []


def _checkpoint_periods(config):
    """Steps between two checkpoints, and between two that are kept for ever."""
    return config.train.checkpoint_every, config.train.get("keep_every", 0)  # older runs do not have it


def _is_due(step: int, period: int, config: ConfigDict) -> bool:
    """At every multiple of the period and at the end; 0 = never."""
    return period > 0 and (step % period == 0 or step == config.train.num_steps)


def _average(window: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in window])) for name in window[0]}


def _check_masks(config: ConfigDict, image_shape: tuple[int, int, int]) -> None:
    """Draws masks in the abstract: a mask file of another size is told before anything is written."""
    sample_mask = masks.make_sampler(config.mask)
    shape = (config.train.batch_size, *image_shape[:2])
    jax.eval_shape(lambda key: sample_mask(key, shape), jax.random.key(0))


def _is_time(saved_at: float, train_config: ConfigDict) -> bool:
    """Whether this process, the first, wants a checkpoint since the last one is too old."""
    minutes = train_config.checkpoint_minutes
    return minutes > 0 and sharding.is_first_process() and time.monotonic() - saved_at > 60 * minutes


def _check_finite(step: int, metrics: dict[str, float], seed: int) -> None:
    for name in ("loss", "grad_norm"):
        if not math.isfinite(metrics[name]):
            raise UserError(
                f"The {name} is {metrics[name]} at step {step} (loss {metrics['loss']}, seed {seed}); lower "
                "config.train.learning_rate or clip with config.train.max_grad_norm=1, and go on from the "
                "last checkpoint in --workdir."
            )


def _check_finite_state(step: int, train_state: state.TrainState, seed: int) -> None:
    """A state that cannot be used must not replace one that can."""
    if not state.is_finite(train_state):
        raise UserError(
            f"The parameters or the optimiser's state are not finite after step {step} (seed {seed}), so "
            "they are not saved; lower config.train.learning_rate and go on from the last checkpoint in "
            "--workdir."
        )
