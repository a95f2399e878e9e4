"""Steps cut into dispatches: how many at once, the program that does them, its memory and its images."""

import functools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.data import masks, sampling, streaming
from ifanp_jax.runtime import device_mesh, flops, sharing
from ifanp_jax.training.runs import Run

logger = logging.getLogger(__name__)

# A dispatch of an accelerator holds about as many operations: 0.1 to 1 s of it. More steps would only delay
# what happens between dispatches.
DISPATCH_FLOPS = 2e13
MAX_STEPS_PER_DISPATCH = 200
RESIDENT_FRACTION = 0.25  # of a device's memory, for the training images


class Streams(NamedTuple):
    """PRNG keys, one for each thing that is drawn.

    Attributes:
      init: of the parameters.
      order: of the training images.
      masks: of their contexts, folded in with the number of the batch.
      augmentation: of their crops and flips, likewise.
      noise: of the step (latent samples and the like), folded in with the step.
    """

    init: jax.Array
    order: jax.Array
    masks: jax.Array
    augmentation: jax.Array
    noise: jax.Array


def make_streams(seed: int) -> Streams:
    """Splits the seed of a run, in [0, 2^32)."""
    init, rest = jax.random.split(jax.random.key(seed))
    data, noise = jax.random.split(rest)
    order, masks = jax.random.split(data)
    augmentation = jax.random.fold_in(data, 2)  # a split in two is the first two of these
    return Streams(init=init, order=order, masks=masks, augmentation=augmentation, noise=noise)


def list_dispatches(
    start: int, end: int, *, steps_per_dispatch: int, periods: tuple[int, ...]
) -> Iterator[tuple[int, int]]:
    """Cuts the steps from `start` to `end` into dispatches that end at every multiple of each period.

    A period of 0 never ends one.

    Yields:
      (steps done before, number of steps), at most `steps_per_dispatch`.
    """
    while start < end:
        ends = [start + period - start % period for period in periods if period]
        num_steps = min([end, start + steps_per_dispatch, *ends]) - start
        yield start, num_steps
        start += num_steps


def choose_steps_per_dispatch(run: Run, periods: tuple[int, ...]) -> int:
    """Steps per dispatch: as configured, else 1 on a CPU, and what fills 0.1 to 1 s of an accelerator.

    It follows from the operations of a step, not from a clock, so that a run is cut alike each time. Of the
    run's state only shapes and dtypes count; `periods` are those of `list_dispatches`.
    """
    if run.config.train.steps_per_dispatch:
        return run.config.train.steps_per_dispatch
    if jax.default_backend() == "cpu":
        return 1
    return fit_steps(count_step_flops(run) / jax.device_count(), periods)


def fit_steps(step_flops: float, periods: tuple[int, ...]) -> int:
    """Steps that hold about `DISPATCH_FLOPS` operations, and divide the periods where that costs little."""
    most = max(1, min(MAX_STEPS_PER_DISPATCH, round(DISPATCH_FLOPS / step_flops), *filter(None, periods)))
    # A divisor leaves no remainder, which would be compiled for itself.
    divisor = max(size for size in range(1, most + 1) if math.gcd(*periods) % size == 0)
    return divisor if 2 * divisor >= most else most


def count_step_flops(run: Run) -> int:
    """Operations of a step on the whole batch; of the run's state only shapes and dtypes count."""
    n, b, (h, w, c) = run.step.num_batches, run.config.train.batch_size, run.image_shape
    batches = sampling.Batch(
        image=jax.ShapeDtypeStruct((n, b, h, w, c), jnp.float32),
        mask=jax.ShapeDtypeStruct((n, b, h, w, 1), bool),
    )
    return flops.count(run.step.update, jax.random.key(0), run.state, batches)


def make_sampler(streams: Streams, config: ConfigDict, num_images: int) -> tuple[Callable, Callable]:
    """Returns `list_indices(number) -> uint32 (B,)` and `make_batch(images, number) -> Batch`.

    The images of batch `number`, uint8 (B, H, W, C), are those at its indices among `num_images` per epoch,
    wherever they are kept. Crops, flips and contexts are made on the device.
    """
    list_indices = functools.partial(
        sampling.batch_indices, streams.order, num_images=num_images, batch_size=config.train.batch_size
    )
    make_batch = sampling.make_sampler(
        streams.masks,
        streams.augmentation,
        masks.make_sampler(config.mask),
        crop=config.data.random_crop,
        flips=config.data.flips,
        scales=tuple(config.data.random_scale),
    )
    return list_indices, make_batch


def make_train_steps(
    streams: Streams,
    run: Run,
    *,
    mesh: jax.sharding.Mesh,
    num_images: int,
    is_streamed: bool = False,
) -> Callable:
    """Returns the compiled `train_steps(state, images, num_steps) -> (state, metrics)`.

    It makes its batches, does `num_steps` optimiser steps in one dispatch and donates the state; the metrics
    are those of each step, (num_steps,). How steps are cut into dispatches changes rounding at most.

    Args:
      streams: of the seed.
      run: its state is not used.
      mesh: of all devices.
      num_images: N.
      is_streamed: `images` are then the steps' own, uint8 (num_steps * num_batches, B, H, W, C) from
        `streaming.stream`; otherwise all of them, uint8 (M, H, W, C) with M >= N, from
        `device_mesh.put_rows`.
    """
    list_indices, make_batch = make_sampler(streams, run.config, num_images)
    num_batches = run.step.num_batches
    replicated, batched = device_mesh.replicated(mesh), device_mesh.batched(mesh)

    def make_batches(step, images, step_images):
        batches = []
        for index in range(num_batches):
            number = step * num_batches + index
            chosen = (
                step_images[index] if is_streamed else device_mesh.gather(images, list_indices(number), mesh)
            )
            batches.append(jax.lax.with_sharding_constraint(make_batch(chosen, number), batched))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)

    def train_steps(state, images, num_steps):
        def step(state, step_images):
            return run.step.update(streams.noise, state, make_batches(state.step, images, step_images))

        by_step = images.reshape(num_steps, num_batches, *images.shape[1:]) if is_streamed else None
        if num_steps == 1:
            state, metrics = step(state, by_step[0] if is_streamed else None)
            return state, jax.tree.map(lambda x: x[None], metrics)
        # XLA on CPU runs convolutions in a loop many times slower, and rounds them otherwise: unroll there.
        is_cpu = jax.default_backend() == "cpu"
        return jax.lax.scan(step, state, by_step, length=num_steps, unroll=is_cpu)

    return jax.jit(
        sharing.announced(train_steps, mesh),
        static_argnums=2,
        donate_argnums=0,
        in_shardings=(replicated, device_mesh.batched(mesh, axis=int(is_streamed))),
        out_shardings=replicated,
    )


def must_stream(config: ConfigDict, images: np.ndarray, mesh: jax.sharding.Mesh) -> bool:
    """Whether the training images are streamed: as configured, else when they do not fit on the devices."""
    if config.data.placement != "auto":
        return config.data.placement == "stream"
    available = RESIDENT_FRACTION * device_mesh.device_bytes(mesh.local_devices[0])
    return bool(device_mesh.agree(images.nbytes / mesh.size > available))


def make_feed(
    streams: Streams,
    run: Run,
    images: np.ndarray,
    dispatches: Iterable[tuple[int, int]],
    *,
    mesh: jax.sharding.Mesh,
    is_streamed: bool,
) -> Iterator[tuple[tuple[int, int], jax.Array]]:
    """Yields each dispatch with the images that `train_steps` takes.

    Args:
      streams: of the seed.
      run: its state is not used.
      images: the training images, uint8 (N, H, W, C) in host memory.
      dispatches: from `list_dispatches`.
      mesh: of all devices.
      is_streamed: whether the host reads them batch after batch.
    """
    if not is_streamed:
        resident = device_mesh.put_rows(images, mesh)
        yield from ((one, resident) for one in dispatches)
        return
    logger.info("The training images are streamed from the host.")
    list_indices, _ = make_sampler(streams, run.config, len(images))
    dispatches, num_batches = list(dispatches), run.step.num_batches
    rows = device_mesh.local_rows(run.config.train.batch_size, mesh)
    numbers = [(first * num_batches, num_steps * num_batches) for first, num_steps in dispatches]
    batches = streaming.stream(images, list_indices, numbers, rows=rows)
    for one, batch in zip(dispatches, batches, strict=True):
        yield one, device_mesh.put_local_rows(batch, mesh, axis=1)


def with_memory_check(train_steps: Callable, batch_size: int, mesh: jax.sharding.Mesh) -> Callable:
    """Compiles `train_steps` at its first call for each number of steps, and checks that it will fit."""
    programs = {}

    def checked_steps(state, images, num_steps):
        if num_steps not in programs:
            programs[num_steps] = train_steps.lower(state, images, num_steps).compile()
            device_mesh.check_memory(programs[num_steps], batch_size, mesh)
        return programs[num_steps](state, images)

    return checked_steps


def run_dispatches(train_steps: Callable, state: Any, feed: Iterable) -> Iterator[tuple[int, int, Any, Any]]:
    """Runs the feed, waiting for no result; the state is donated.

    Yields:
      Steps done before the dispatch, its number of steps, the state (which the next dispatch consumes) and
      the metrics (num_steps,).
    """
    for (first, num_steps), images in feed:
        state, metrics = train_steps(state, images, num_steps)
        if jax.default_backend() == "cpu" and jax.device_count() > 1:
            jax.block_until_ready(metrics)  # fake devices on few cores deadlock when dispatches overlap
        yield first, num_steps, state, metrics
