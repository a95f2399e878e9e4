"""Throughput, memory and the cost of the parts.

    python -m ifanp_jax.benchmark --config=configs/celeba_ifanp.py --output=benchmark.json

Nothing is read but the configuration: the images are random bytes. Each time is the median over several runs
of a compiled call, with the fastest and the slowest beside it; compilation is told apart. Ratios are
alternative / ours, so larger is better. FLOPs are analytic (`flops.count`), and their share is of the rate
that one large matrix product reaches on the same device in the same run.
"""

import json
import logging
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from ifanp_jax.models import answers
from ifanp_jax import configuration, files, objectives
from ifanp_jax.benchmark import table as benchmark_table
from ifanp_jax.data import sampling
from ifanp_jax.errors import UserError
from ifanp_jax.models import image_np
from ifanp_jax.modules import gca, grid, lpa
from ifanp_jax.runtime import command_line, device_mesh
from ifanp_jax.training import flops, loop, runs

logger = logging.getLogger(__name__)

SECTIONS = ("training", "parts", "gca", "lpa", "completion", "scaling", "devices", "start")
NUM_RUNS = 5
NUM_TURNS = 12  # of the variants of the training step
DISPATCHES_PER_TURN = 2
LEAST_SECONDS = 0.05  # of one run: shorter calls are repeated, and waited for once
KNOWN_SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1)}
NUM_IMAGES = 10_000  # random training images
OBSERVED_SHARE = 0.4
COMPARISON_SHAPE = (64, 32, 64)  # B, side, D of the comparisons with other implementations
SCALING_SIDES = (16, 32, 64, 128)
SCALING_BATCH_SIZES = (16, 64, 256)
SCALING_PIXELS = 8 * 128 * 128  # of a batch: what the largest side leaves of it
DEVICE_COUNTS = (1, 2, 4, 8)
MEBIBYTE = 2**20


def run(
    config: ConfigDict, image_shape: tuple[int, int, int], *, sections: tuple[str, ...] = SECTIONS
) -> dict:
    """Measures what `sections` name.

    Args:
      config: as in `configs/default.py`.
      image_shape: (H, W, C) of the images.
      sections: of SECTIONS.

    Returns:
      What `--output` holds: facts of the machine, and one entry per section.
    """
    if jax.process_count() > 1:
        raise UserError("The benchmark measures one process; start it on one machine alone.")
    result = describe(config, image_shape)
    gemm = measure_gemm(config.model.compute_dtype)
    result["gemm"] = gemm
    logger.info("GEMM: %.0f GFLOP/s in %s.", gemm["gflops_per_second"], config.model.compute_dtype)
    measures = {
        "training": measure_training,
        "parts": measure_parts,
        "gca": measure_gca,
        "lpa": measure_lpa,
        "completion": measure_completion,
        "scaling": measure_scaling,
        "devices": measure_devices,
        "start": measure_start,
    }
    for name in sections:
        started = time.monotonic()
        result[name] = measures[name](config, image_shape, gemm["gflops_per_second"])
        logger.info("%s: measured in %.0f s.", name, time.monotonic() - started)
    return result


def describe(config: ConfigDict, image_shape: tuple[int, int, int]) -> dict:
    """What every figure must be read with: device, dtype, batch, steps per dispatch, versions."""
    device = jax.devices()[0]
    name = device.device_kind
    if device.platform == "cpu":
        name = f"{_cpu_name()}, {os.cpu_count()} cores"
    return {
        "device": name,
        "platform": device.platform,
        "num_devices": jax.device_count(),
        "dtype": config.model.compute_dtype,
        "model": config.model.name,
        "width": config.model.width,
        "image_shape": list(image_shape),
        "batch_size": config.train.batch_size,
        "steps_per_dispatch": _steps_per_dispatch(config, image_shape),
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def measure(function: Callable, *args, num_runs: int = NUM_RUNS) -> dict:
    """Compiles and times a function.

    Args:
      function: traceable; its arguments are kept.
      *args: arrays.
      num_runs: timed runs, after one that is not counted.

    Returns:
      `milliseconds` (median), `milliseconds_range`, `compile_seconds`, `temporary_mib`.
    """
    started = time.monotonic()
    compiled = jax.jit(function).lower(*args).compile()
    compile_seconds = time.monotonic() - started

    def call(state):
        return compiled(*args)

    return {
        **_time(call, None, num_runs),
        "compile_seconds": compile_seconds,
        "temporary_mib": _temporary_mib(compiled),
    }


def _time(call, state, num_runs, *, num_steps=1):
    """Times `state = call(state)` per step, several calls a run where one is short."""
    started = time.monotonic()
    state = jax.block_until_ready(call(state))
    first_seconds = second_seconds = time.monotonic() - started
    if first_seconds < 1:  # the first call of a GPU also loads the program
        started = time.monotonic()
        state = jax.block_until_ready(call(state))
        second_seconds = time.monotonic() - started
    repeats = max(1, round(LEAST_SECONDS / second_seconds))
    times = []
    for _ in range(num_runs):
        started = time.monotonic()
        for _ in range(repeats):
            state = call(state)
        jax.block_until_ready(state)
        times.append((time.monotonic() - started) / repeats / num_steps * 1e3)
    return {**_summarise(times), "first_call_seconds": first_seconds}


def _summarise(times):
    return {"milliseconds": statistics.median(times), "milliseconds_range": [min(times), max(times)]}


def measure_gemm(dtype: str) -> dict:
    """The rate of one large square matrix product: what the device's best is taken to be."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    entry = measure(jnp.matmul, matrix, matrix, num_runs=15)
    return entry | {"size": size, "gflops_per_second": 2 * size**3 / entry["milliseconds"] / 1e6}


def measure_training(config: ConfigDict, image_shape: tuple[int, int, int], gemm_rate: float) -> dict:
    """The training step alone, in the loop of `loop.run`, streamed from the host, and on a constant batch.

    The costs of loop and input are small differences of large times on a machine whose speed drifts, so the
    four take turns and are compared turn by turn.
    """
    variants, facts = _make_variants(config, image_shape)
    num_steps = _steps_per_dispatch(config, image_shape)
    times = {name: [] for name in variants}
    for turn in range(NUM_TURNS + 1):
        for name, advance in variants.items():
            started = time.monotonic()
            for _ in range(DISPATCHES_PER_TURN):
                state = next(advance)
            jax.block_until_ready(state)
            if turn > 0:  # the first turn warms up
                milliseconds = (time.monotonic() - started) * 1e3
                times[name].append(milliseconds / DISPATCHES_PER_TURN / num_steps)
    alone = _summarise(times["alone"])
    num_flops = _step_flops(config, image_shape)
    return {
        **alone,
        "images_per_second": config.train.batch_size / alone["milliseconds"] * 1e3,
        "mflops_per_image": num_flops / config.train.batch_size / 1e6,
        "gemm_share": num_flops / alone["milliseconds"] / 1e6 / gemm_rate / jax.device_count(),
        **facts,
        "peak_mib": _peak_mib(),
        "loop_overhead": _overhead(times["loop"], times["alone"]),
        "resident_overhead": _overhead(times["alone"], times["constant_images"]),
        "streamed_overhead": _overhead(times["streamed_loop"], times["loop"]),
        **{name: _summarise(times[name]) for name in variants},
    }


def _overhead(times, reference_times):
    return statistics.median(a / b - 1 for a, b in zip(times, reference_times, strict=True))


def _make_variants(config, image_shape):
    """Endless iterators over the state, one dispatch each, and what compiling the step took."""
    num_steps = _steps_per_dispatch(config, image_shape)
    config = config.copy_and_resolve_references()
    many = 2**30 // num_steps * num_steps
    config.train.update(num_steps=many, checkpoint_every=many, validate_every=0, log_every=num_steps)
    key, mesh, images = jax.random.key(config.seed), device_mesh.make_mesh(), _random_images(image_shape)
    variants, facts = {}, {}
    for is_streamed in (False, True):
        train_steps, state, resident = _make_training(config, image_shape, is_streamed=is_streamed)
        batch = images[: config.train.batch_size][None].repeat(num_steps, axis=0)
        given = device_mesh.put_local_rows(batch, mesh, axis=1) if is_streamed else resident
        started = time.monotonic()
        compiled = train_steps.lower(state, given, num_steps).compile()
        if not is_streamed:
            facts = {
                "compile_seconds": time.monotonic() - started,
                "temporary_mib": _temporary_mib(compiled),
            }

        def advance(state, compiled=compiled, given=given):
            while True:
                state, _ = compiled(state, given)
                yield state

        def loop(state, compiled=compiled, is_streamed=is_streamed):
            dispatches = ((first, num_steps) for first in range(0, 1000 * num_steps, num_steps))
            feed = loop.make_feed(key, config, images, dispatches, mesh=mesh, is_streamed=is_streamed)
            with tempfile.TemporaryDirectory() as workdir, loop.MetricLog(config, workdir, step=0) as log:
                run = loop.run_dispatches(lambda state, images, _: compiled(state, images), state, feed, log)
                yield from (state for _, state in run)

        variants["constant_images" if is_streamed else "alone"] = advance(jax.tree.map(jnp.copy, state))
        variants["streamed_loop" if is_streamed else "loop"] = loop(state)
    return variants, facts


def _measure_steps(config, image_shape, *, num_runs=2 * NUM_RUNS, devices=None):
    """The compiled `train_steps` on images that live on the device, per step."""
    train_steps, state, images = _make_training(config, image_shape, devices=devices)
    num_steps = _steps_per_dispatch(config, image_shape)
    started = time.monotonic()
    compiled = train_steps.lower(state, images, num_steps).compile()
    compile_seconds = time.monotonic() - started
    times = _time(lambda state: compiled(state, images)[0], state, num_runs, num_steps=num_steps)
    return {
        **times,
        "compile_seconds": compile_seconds,
        "temporary_mib": _temporary_mib(compiled),
        "steps_per_dispatch": num_steps,
        "batch_size": config.train.batch_size,
    }


def _make_training(config, image_shape, *, devices=None, is_streamed=False):
    mesh = device_mesh.make_mesh(devices=devices)
    init_key, step_key = jax.random.split(jax.random.key(config.seed))
    model, tx, init = runs.make_model(config, image_shape)
    state = jax.jit(init, out_shardings=device_mesh.replicated(mesh))(init_key)
    train_steps = loop.make_train_step(
        step_key, config, model, tx, mesh=mesh, num_images=NUM_IMAGES, is_streamed=is_streamed
    )
    images = device_mesh.put_rows(_random_images(image_shape), mesh)
    return train_steps, state, images


def measure_parts(config: ConfigDict, image_shape: tuple[int, int, int], gemm_rate: float) -> list[dict]:
    """Each part of the step at the step's shapes, forward and with its gradients.

    The gradients are those by the parameters and by what the part before computed.
    """
    b, (h, w, c), width = config.train.batch_size, image_shape, config.model.width
    model, tx, init = runs.make_model(config, image_shape)
    state = jax.jit(init)(jax.random.key(config.seed))
    if not isinstance(model, image_np.ImageNeuralProcess):
        return []
    bound = model.bind({"params": state.params})
    batch = _random_batch(b, image_shape)
    dtype = jnp.dtype(config.model.compute_dtype)
    features = jax.random.normal(jax.random.key(1), (b, h, w, width), dtype)
    inputs = jax.random.normal(jax.random.key(2), (b, h, w, c + 2))
    grid = grid.coordinates(h, w)
    z = jax.random.normal(jax.random.key(3), (config.objective.num_samples, b, config.model.latent_dim))
    rows = []

    def add(name, function, inputs):
        """Times function(*inputs) and its gradients by `inputs`."""
        rows.append({"part": name, "batch_size": b, **_measure_part(function, inputs, gemm_rate)})

    def add_module(name, bound_module, inputs, others=()):
        """Times a module; gradients are by its parameters and `inputs`."""
        module, variables = bound_module.unbind()
        add(name, lambda variables, *inputs: module.apply(variables, *inputs, *others), (variables, *inputs))

    add_module("encoder 1, context and full", bound.encoder1, (), (jnp.concatenate([inputs] * 2),))
    if bound.encoder_extra == "lpa":
        add_module("LPA, context and full", bound.extra, (jnp.concatenate([features] * 2),))
    if bound.has_deterministic_path:
        add_module("encoder 2", bound.encoder2, (), (inputs,))
        add_module("GCA", bound.attention[0], (features,), (batch.mask, grid))
        add_module("decoder", bound.decoder, (z, features), (grid,))
    else:
        add_module("decoder", bound.decoder, (z,), (None, grid))
    prediction = jax.random.uniform(jax.random.key(4), (len(z), *batch.image.shape))
    add("objective", lambda mean: _objective(batch, mean), (prediction,))
    params = state.params
    gradient = jax.tree.map(jnp.ones_like, params)
    update = measure(lambda opt_state: tx.update(gradient, opt_state, params), state.opt_state)
    rows.append({"part": "optimiser", "batch_size": b, **update})
    list_indices, make_batch = loop.make_sampler(jax.random.key(0), config, NUM_IMAGES)
    images = jnp.asarray(_random_images(image_shape))

    def sample(step):
        return make_batch(images[list_indices(step)], step)

    rows.append({"part": "batch and contexts", "batch_size": b, **measure(sample, jnp.int32(1))})
    return rows


def _with_gradient(function):
    """Returns `call(cotangent, *inputs)`: the function's answer and its gradients by `inputs`."""

    def call(cotangent, *inputs):
        out, pullback = jax.vjp(function, *inputs)
        return out, pullback(cotangent)

    return call


def _measure_part(function, inputs, gemm_rate):
    with_gradient = _with_gradient(function)
    cotangent = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), jax.eval_shape(function, *inputs))
    forward = measure(function, *inputs)
    both = measure(with_gradient, cotangent, *inputs)
    num_flops = flops.count(with_gradient, cotangent, *inputs)
    return {
        **both,
        "forward_milliseconds": forward["milliseconds"],
        "mflops_per_step": num_flops / 1e6,
        "gemm_share": num_flops / both["milliseconds"] / 1e6 / gemm_rate,
    }


def _objective(batch, mean):
    targets = jnp.ones_like(batch.mask)
    log_prob = objectives.gaussian_log_prob(batch.image, mean, jnp.full_like(mean, 0.1), targets)
    return log_prob.mean()


def measure_gca(config: ConfigDict, image_shape: tuple[int, int, int], gemm_rate: float) -> dict:
    """Attention with one similarity for all images against two implementations with one per image.

    Forward and backward, float32; the ratios are to the faster and to the smaller alternative.
    """
    del config, image_shape, gemm_rate
    b, side, d = COMPARISON_SHAPE
    keys = jax.random.split(jax.random.key(0), 4)
    theta = 0.3 * jax.random.normal(keys[0], (side * side, d))
    values, cotangent = jax.random.normal(keys[1], (2, b, side * side, d))
    observed = jax.random.bernoulli(keys[2], OBSERVED_SHARE, (b, side * side))
    return _compare(
        gca.attend,
        {"per-image masked softmax": per_image_softmax, "jax.nn.dot_product_attention": library_attention},
        (theta, values),
        (observed,),
        cotangent,
    ) | {"name": "GCA", "shape": {"batch_size": b, "side": side, "width": d}, "dtype": "float32"}


def per_image_softmax(theta: jax.Array, values: jax.Array, observed: jax.Array) -> jax.Array:
    """The obvious attention: the shared logits masked for each image, then a softmax for each.

    Args:
      theta: float32 (N, K), inside the ball.
      values: (B, N, D).
      observed: bool (B, N), at least one each.

    Returns:
      (B, N, D).
    """
    logits = jnp.matmul(theta, theta.T, precision=jax.lax.Precision.HIGHEST)
    weights = jax.nn.softmax(jnp.where(observed[:, None, :], logits[None], -jnp.inf), axis=-1)
    return weights @ values


def library_attention(theta: jax.Array, values: jax.Array, observed: jax.Array) -> jax.Array:
    """The same by `jax.nn.dot_product_attention`, which takes queries and keys per image and wants K = D."""
    query = jnp.broadcast_to(theta[None, :, None], (len(values), len(theta), 1, theta.shape[1]))
    options = {"mask": observed[:, None, None, :], "scale": 1.0}
    return jax.nn.dot_product_attention(query, query, values[:, :, None], **options)[:, :, 0]


def measure_lpa(config: ConfigDict, image_shape: tuple[int, int, int], gemm_rate: float) -> dict:
    """LPA as a sum of shifted slices against a depthwise convolution; forward and backward."""
    del config, image_shape, gemm_rate
    b, side, d = COMPARISON_SHAPE
    x, cotangent = jax.random.normal(jax.random.key(0), (2, b, side, side, d))
    weights = lpa.window_weights(jnp.ones(d))
    alternatives = {"depthwise convolution": depthwise_convolution}
    return _compare(lpa.pool, alternatives, (x,), (weights,), cotangent) | {
        "name": "LPA",
        "shape": {"batch_size": b, "side": side, "width": d},
        "dtype": "float32",
    }


def depthwise_convolution(x: jax.Array, weights: jax.Array) -> jax.Array:
    """`lpa.pool` as a convolution with one group per channel: (B, H, W, D), (3, 3, D) -> (B, H, W, D)."""
    return jax.lax.conv_general_dilated(
        x,
        weights[:, :, None, :],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _compare(ours, alternatives, inputs, others, cotangent):
    """Forward and backward times and temporary memory, and their ratios to the best alternative."""

    def measure_one(function):
        return measure(_with_gradient(lambda *inputs: function(*inputs, *others)), cotangent, *inputs)

    entry = measure_one(ours)
    entries = {name: measure_one(function) for name, function in alternatives.items()}
    return {
        **entry,
        "alternatives": entries,
        "time_ratio": min(e["milliseconds"] for e in entries.values()) / entry["milliseconds"],
        "memory_ratio": min(e["temporary_mib"] for e in entries.values()) / max(entry["temporary_mib"], 1e-6),
    }


def measure_completion(config: ConfigDict, image_shape: tuple[int, int, int], gemm_rate: float) -> dict:
    """Completion by S samples: the latency of one image, and images per second in a batch."""
    del gemm_rate
    model, _, init = runs.make_model(config, image_shape)
    params = jax.jit(init)(jax.random.key(config.seed)).params
    num_samples = config.evaluate.num_samples
    entries = {}
    for name, size in (("one_image", 1), ("batch", config.train.batch_size)):
        batch = _random_batch(size, image_shape)

        def call(key, image, mask):
            return answers.complete_batch(key, model, params, image, mask, num_samples=num_samples)

        entry = measure(call, jax.random.key(0), batch.image, batch.mask)
        entry |= {"batch_size": size, "num_samples": num_samples}
        entries[name] = entry | {"images_per_second": size / entry["milliseconds"] * 1e3}
    return entries


def measure_scaling(config: ConfigDict, image_shape: tuple[int, int, int], gemm_rate: float) -> dict:
    """The training step at other resolutions (the batch shrinks with the pixels) and batch sizes."""
    by_side, by_batch_size = [], []
    for side in SCALING_SIDES:
        batch_size = min(config.train.batch_size, max(1, SCALING_PIXELS // side**2))
        batch_size = -(-batch_size // jax.device_count()) * jax.device_count()
        by_side.append(_scale(config, (side, side, image_shape[-1]), batch_size, gemm_rate))
    for batch_size in SCALING_BATCH_SIZES:
        by_batch_size.append(_scale(config, image_shape, batch_size, gemm_rate))
    return {"side": by_side, "batch_size": by_batch_size}


def _scale(config, image_shape, batch_size, gemm_rate):
    config = config.copy_and_resolve_references()
    config.train.batch_size = batch_size
    entry = _measure_steps(config, image_shape, num_runs=2)
    rate = _step_flops(config, image_shape) / entry["milliseconds"] / 1e6
    return {
        "side": image_shape[0],
        **entry,
        "images_per_second": batch_size / entry["milliseconds"] * 1e3,
        "gemm_share": rate / gemm_rate / jax.device_count(),
    }


def measure_devices(config: ConfigDict, image_shape: tuple[int, int, int], gemm_rate: float) -> list[dict]:
    """Weak scaling over the devices there are; on a CPU, fake devices, which show correctness only."""
    del gemm_rate
    if jax.default_backend() == "cpu":
        return _measure_fake_devices(config, image_shape)
    rows = []
    for count in DEVICE_COUNTS:
        if count > jax.local_device_count():
            break
        scaled = config.copy_and_resolve_references()
        scaled.train.batch_size = config.train.batch_size * count
        entry = _measure_steps(scaled, image_shape, devices=jax.local_devices()[:count])
        rate = scaled.train.batch_size / entry["milliseconds"] * 1e3
        rows.append({"num_devices": count, "is_fake": False, "images_per_second": rate, **entry})
    return rows


def _measure_fake_devices(config, image_shape):
    small = config.copy_and_resolve_references()
    small.train.update(batch_size=8, steps_per_dispatch=1)
    rows = []
    for count in DEVICE_COUNTS:
        answer = _probe(small, (8, 8, image_shape[-1]), num_steps=5, num_devices=count)
        rows.append({"num_devices": count, "is_fake": True, "losses": answer["losses"]})
        pairs = zip(rows[0]["losses"], rows[-1]["losses"], strict=True)
        rows[-1]["largest_relative_difference"] = max(abs(a - b) / abs(a) for a, b in pairs)
    return rows


def measure_start(config: ConfigDict, image_shape: tuple[int, int, int], gemm_rate: float) -> dict:
    """Seconds from the start of a process to the end of its first step; compiling, and from the cache."""
    del gemm_rate
    if jax.default_backend() != "cpu":
        return {}  # this process holds the device: a second one would wait for its memory, or fail
    with tempfile.TemporaryDirectory() as directory:
        cold, warm = (_probe(config, image_shape, cache=directory)["seconds"] for _ in range(2))
    return {"cold_seconds": cold, "warm_seconds": warm}


def _probe(config, image_shape, *, num_steps=1, num_devices=0, cache=""):
    """Runs `answer_probe` in a process of its own."""
    environment = dict(os.environ)
    root = str(pathlib.Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    if num_devices:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={num_devices}"
    request = {"config": config.to_json(), "image_shape": image_shape, "num_steps": num_steps, "cache": cache}
    code = "import sys; from ifanp_jax import benchmark; benchmark.answer_probe(sys.argv[1])"
    started = time.time()
    process = subprocess.run(
        [sys.executable, "-c", code, json.dumps(request)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise UserError(f"A measuring process failed: {process.stderr.strip().splitlines()[-1]}")
    answer = json.loads(process.stdout.splitlines()[-1])
    return answer | {"seconds": answer["finished"] - started}


def answer_probe(request: str) -> None:
    """Trains a few steps and prints the losses and when they were done; `request` is JSON from `_probe`."""
    from ifanp_jax.runtime import compilation_cache

    fields = json.loads(request)
    if fields["cache"]:
        compilation_cache.enable(fields["cache"])
    config = ConfigDict(json.loads(fields["config"]))
    train_steps, state, images = _make_training(config, tuple(fields["image_shape"]))
    losses = []
    for _ in range(fields["num_steps"]):
        state, metrics = train_steps(state, images, 1)
        losses.append(float(metrics["loss"][0]))  # waits
    print(json.dumps({"losses": losses, "finished": time.time()}))


def _steps_per_dispatch(config, image_shape):
    model, tx, init = runs.make_model(config, image_shape)
    state = jax.eval_shape(init, jax.random.key(0))
    return loop.choose_steps_per_dispatch(config, model, tx, state, image_shape)


def _step_flops(config, image_shape):
    model, tx, init = runs.make_model(config, image_shape)
    return loop.count_step_flops(config, model, tx, jax.eval_shape(init, jax.random.key(0)), image_shape)


def _random_images(image_shape):
    return np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, *image_shape), np.uint8)


def _random_batch(batch_size, image_shape):
    image_key, mask_key = jax.random.split(jax.random.key(0))
    shape = (batch_size, *image_shape)
    return sampling.Batch(
        image=jax.random.uniform(image_key, shape),
        mask=jax.random.bernoulli(mask_key, OBSERVED_SHARE, (*shape[:3], 1)),
    )


def _temporary_mib(compiled):
    analysis = compiled.memory_analysis()
    return analysis.temp_size_in_bytes / MEBIBYTE if analysis else float("nan")


def _peak_mib():
    """Most memory used so far: of the device, or on a CPU of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / MEBIBYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _cpu_name():
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "CPU"


def get_image_shape(config: ConfigDict, *, image_size: int, channels: int) -> tuple[int, int, int]:
    """(H, W, C) as given, else as configured, else of the data set's name.

    Raises:
      UserError: when none of these tells it.
    """
    known = KNOWN_SHAPES.get(config.data.name, (0, 0, 0))
    side = image_size or config.data.image_size or known[0]
    channels = channels or config.data.channels or known[2]
    if not side or channels not in (1, 3):
        raise UserError(
            f"The configuration does not tell the size of the images of {config.data.name!r}; give "
            "--image_size=PIXELS and --channels=1 or 3."
        )
    return side, side, channels


def _define_flags():
    return {
        "output": flags.DEFINE_string("output", "", "File for all numbers, as JSON."),
        "sections": flags.DEFINE_multi_enum("section", [], SECTIONS, "Only this; may be repeated."),
        "image_size": flags.DEFINE_integer("image_size", 0, "Side in pixels; 0 = as configured."),
        "channels": flags.DEFINE_integer("channels", 0, "1 or 3; 0 = as configured."),
    }


def _main(given):
    logging.getLogger("ifanp_jax.train").setLevel(logging.WARNING)  # its progress means nothing here
    logging.getLogger("ifanp_jax.writers").setLevel(logging.WARNING)
    config = command_line.get_config()
    if config is None:
        raise UserError("--config is missing; give a file such as configs/celeba_ifanp.py.")
    configuration.check(config)
    image_shape = get_image_shape(
        config, image_size=given["image_size"].value, channels=given["channels"].value
    )
    output = pathlib.Path(given["output"].value) if given["output"].value else None
    if output and not output.absolute().parent.is_dir():
        raise UserError(f"--output={output} lies in no folder that exists; make {output.parent} first.")
    command_line.start_jax()
    sections = tuple(name for name in SECTIONS if name in given["sections"].value) or SECTIONS
    result = run(config, image_shape, sections=sections)
    benchmark_table.print_table(result)
    if output:
        files.write_whole(output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    GIVEN = _define_flags()
    command_line.run(lambda: _main(GIVEN))
