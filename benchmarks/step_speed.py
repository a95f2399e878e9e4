"""The training step: alone, in the loop around it, streamed, at other sizes, on more devices."""

import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import inputs, timing
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import dispatch, keys, runs
from ifanp_jax.training import feed as feeds
from ifanp_jax.training.log import MetricLog

DISPATCHES_PER_TURN = 2
SCALING_PIXELS = 8 * 128 * 128  # of a batch: what the largest side leaves of it
NEVER = 2**30  # steps


def measure_training(case: inputs.Case) -> dict:
    """The training step alone, in the loop of `loop.run`, streamed from the host, and on a constant batch.

    The costs of loop and input are small differences of large times on a machine whose speed drifts, so the
    four take turns and are compared turn by turn.
    """
    num_steps = inputs.count_steps_per_dispatch(case.run)
    batch_size, num_flops = case.run.config.train.batch_size, inputs.count_step_flops(case.run)
    with contextlib.ExitStack() as stack:
        variants, facts = _make_variants(case, num_steps, stack)
        times = _take_turns(variants, case.effort.num_turns, num_steps)
    alone = timing.summarise(times["alone"])
    return {
        **alone,
        "images_per_second": batch_size / alone["milliseconds"] * 1e3,
        "mflops_per_image": num_flops / batch_size / 1e6,
        "gemm_share": num_flops / alone["milliseconds"] / 1e6 / case.gemm_rate / inputs.count_units(),
        **facts,
        "peak_mib": timing.peak_mib(),
        "loop_overhead": _overhead(times["loop"], times["alone"]),
        "resident_overhead": _overhead(times["alone"], times["constant_images"]),
        "streamed_overhead": _overhead(times["streamed_loop"], times["loop"]),
        **{name: timing.summarise(times[name]) for name in variants},
    }


def _take_turns(variants, num_turns, num_steps):
    """Milliseconds per step of each variant, turn by turn."""
    times = {name: [] for name in variants}
    for turn in range(num_turns + 1):
        for name, advance in variants.items():
            started = time.monotonic()
            for _ in range(DISPATCHES_PER_TURN):
                state = next(advance)
            jax.block_until_ready(state)
            if turn > 0:  # the first turn warms up
                milliseconds = (time.monotonic() - started) * 1e3
                times[name].append(milliseconds / DISPATCHES_PER_TURN / num_steps)
    return times


def _overhead(times, reference_times):
    return statistics.median(a / b - 1 for a, b in zip(times, reference_times, strict=True))


def _make_variants(case, num_steps, stack) -> tuple[dict[str, Iterator], dict]:
    """Endless iterators over the state, one dispatch each, and what compiling the step took."""
    many = NEVER // num_steps * num_steps
    run = inputs.change_run(
        case.run, num_steps=many, checkpoint_every=many, validate_every=0, log_every=num_steps
    )
    resident = make_training(run, case.effort.num_images)
    program, facts = timing.compile_timed(
        resident.train_steps, resident.run.state, resident.images, num_steps
    )
    streamed = make_training(run, case.effort.num_images, is_streamed=True)
    constant = _put_constant_batches(streamed, num_steps)
    streamed_program, _ = timing.compile_timed(streamed.train_steps, streamed.run.state, constant, num_steps)
    variants = {
        "alone": _advance(program, _copy_state(resident), resident.images),
        "loop": _advance_in_loop(program, resident, num_steps, is_streamed=False),
        "constant_images": _advance(streamed_program, _copy_state(streamed), constant),
        "streamed_loop": _advance_in_loop(streamed_program, streamed, num_steps, is_streamed=True),
    }
    for advance in variants.values():
        stack.enter_context(contextlib.closing(advance))
    return variants, facts


def _put_constant_batches(training, num_steps):
    """The same images for every step of a dispatch, as the host would stream them."""
    run = training.run
    batch = training.host_images[: run.config.train.batch_size]
    batches = batch[None].repeat(num_steps * run.step.num_batches, axis=0)
    return device_mesh.put_local_rows(batches, training.mesh, axis=1)


def _copy_state(training):
    return jax.tree.map(jnp.copy, training.run.state)


def _advance(program, state, images):
    while True:
        state, _ = program(state, images)
        yield state


def _advance_in_loop(program, training, num_steps, *, is_streamed):
    """As `loop.run` does it: the feed, the dispatches and the log of metrics."""
    run, state = training.run, _copy_state(training)
    feed = feeds.make_feed(
        keys.make_streams(run.config.seed),
        run.config,
        training.host_images,
        ((first, num_steps) for first in range(0, 1000 * num_steps, num_steps)),
        mesh=training.mesh,
        is_streamed=is_streamed,
        num_batches=run.step.num_batches,
    )
    with tempfile.TemporaryDirectory() as workdir, MetricLog(run, workdir, record={}) as log:
        done = dispatch.run_dispatches(lambda state, images, _: program(state, images), state, feed)
        for first, _, state, metrics in done:
            log.add(first, metrics)
            yield state


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """What a training holds before its first step.

    Attributes:
      run: with its state.
      train_steps: from `dispatch.make_train_steps`.
      host_images: uint8 (N, H, W, C).
      images: the same on the devices.
      mesh: of the devices.
    """

    run: runs.Run
    train_steps: Callable
    host_images: Any
    images: jax.Array
    mesh: jax.sharding.Mesh


def make_training(
    run: runs.Run, num_images: int, *, devices: list[jax.Device] | None = None, is_streamed: bool = False
) -> Training:
    """Prepares a training on random images; nothing of the step is compiled yet.

    Args:
      run: that has not begun.
      num_images: N.
      devices: None = all.
      is_streamed: whether the steps take their own images, from the host.
    """
    mesh = device_mesh.make_mesh(devices=devices, batch_size=run.config.train.batch_size)
    streams = keys.make_streams(run.config.seed)
    init = jax.jit(
        lambda key: run.step.init(key, run.image_shape), out_shardings=device_mesh.replicated(mesh)
    )
    images = inputs.random_images(num_images, run.image_shape)
    return Training(
        run=dataclasses.replace(run, state=init(streams.init)),
        train_steps=dispatch.make_train_steps(
            streams, run, mesh=mesh, num_images=num_images, is_streamed=is_streamed
        ),
        host_images=images,
        images=device_mesh.put_rows(images, mesh),
        mesh=mesh,
    )


def measure_steps(run: runs.Run, effort: inputs.Effort, *, devices: list[jax.Device] | None = None) -> dict:
    """The compiled `train_steps` on images that live on the device, per step.

    Args:
      run: that has not begun.
      effort: of the timing.
      devices: None = all.
    """
    training = make_training(run, effort.num_images, devices=devices)
    num_steps = inputs.count_steps_per_dispatch(run)
    program, facts = timing.compile_timed(
        training.train_steps, training.run.state, training.images, num_steps
    )
    times = timing.time_calls(
        lambda state: program(state, training.images)[0],
        training.run.state,
        effort=effort,
        num_steps=num_steps,
    )
    return times | facts | {"steps_per_dispatch": num_steps, "batch_size": run.config.train.batch_size}


def measure_scaling(case: inputs.Case) -> dict:
    """The training step at other resolutions (the batch shrinks with the pixels) and batch sizes."""
    run, channels = case.run, case.run.image_shape[-1]
    by_side = []
    for side in case.effort.scaling_sides:
        batch_size = min(run.config.train.batch_size, max(1, SCALING_PIXELS // side**2))
        batch_size = -(-batch_size // inputs.count_units()) * inputs.count_units()
        shape = (side, side, channels)
        by_side.append(_scale(case, inputs.change_run(run, image_shape=shape, batch_size=batch_size)))
    batches = (inputs.change_run(run, batch_size=size) for size in case.effort.scaling_batch_sizes)
    return {"side": by_side, "batch_size": [_scale(case, changed) for changed in batches]}


def _scale(case, run):
    entry = measure_steps(run, dataclasses.replace(case.effort, num_runs=2))
    rate = inputs.count_step_flops(run) / entry["milliseconds"] / 1e6
    return {
        "side": run.image_shape[0],
        **entry,
        "images_per_second": run.config.train.batch_size / entry["milliseconds"] * 1e3,
        "gemm_share": rate / case.gemm_rate / inputs.count_units(),
    }


def measure_accelerators(case: inputs.Case) -> list[dict]:
    """Weak scaling over the accelerators of this process."""
    run, devices = case.run, jax.local_devices()
    effort = dataclasses.replace(case.effort, num_runs=2 * case.effort.num_runs)
    rows = []
    for count in itertools.takewhile(lambda count: count <= len(devices), case.effort.device_counts):
        scaled = inputs.change_run(run, batch_size=run.config.train.batch_size * count)
        entry = measure_steps(scaled, effort, devices=devices[:count])
        rate = scaled.config.train.batch_size / entry["milliseconds"] * 1e3
        rows.append({"num_devices": count, "is_fake": False, "images_per_second": rate, **entry})
    return rows
