"""What only a process of its own can show: other numbers of CPU devices, and the time to start."""

import json
import tempfile
import time

import jax

from benchmarks import inputs, processes, step_speed
from ifanp_jax.inference import tensors
from ifanp_jax.runtime import compilation_cache, cores
from ifanp_jax.training import runs

FAKE_BATCH_SIZE, FAKE_SIDE, FAKE_STEPS = 8, 8, 5


def measure_devices(case: inputs.Case) -> list[dict]:
    """Weak scaling over the devices there are; on a CPU, fake devices, which show correctness only."""
    if jax.default_backend() != "cpu":
        return step_speed.measure_accelerators(case)
    shape = (FAKE_SIDE, FAKE_SIDE, case.run.image_shape[-1])
    run = inputs.change_run(case.run, image_shape=shape, batch_size=FAKE_BATCH_SIZE, steps_per_dispatch=1)
    rows = []
    for count in case.effort.device_counts:
        answer = _probe(case, run, num_steps=FAKE_STEPS, num_devices=count)
        rows.append({"num_devices": count, "is_fake": True, "losses": answer["losses"]})
        pairs = zip(rows[0]["losses"], rows[-1]["losses"], strict=True)
        rows[-1]["largest_relative_difference"] = max(abs(a - b) / abs(a) for a, b in pairs)
    return rows


def measure_start(case: inputs.Case) -> dict:
    """Seconds from the start of a process to the end of its first step; compiling, and from the cache."""
    if jax.default_backend() != "cpu":
        return {}  # this process holds the device: a second one would wait for its memory, or fail
    with tempfile.TemporaryDirectory() as directory:
        cold, warm = (_probe(case, case.run, cache=directory)["seconds"] for _ in range(2))
    return {"cold_seconds": cold, "warm_seconds": warm}


def _probe(case, run, *, num_steps=1, num_devices=0, cache=""):
    """Runs `answer_probe` in a process of its own."""
    environment = {}
    if num_devices:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={num_devices}"
    request = {"num_steps": num_steps, "num_images": case.effort.num_images, "cache": cache}
    request |= tensors.make_record(run.config, run.image_shape)
    started = time.time()
    answer = processes.run_alone("probes", "answer_probe", request, **environment)
    return answer | {"seconds": answer["finished"] - started}


def answer_probe(request: str) -> None:
    """Trains a few steps and prints the value that the step shows first, and when they were done, as JSON.

    Args:
      request: JSON: the record of a run, `num_steps`, `num_images` and `cache`.
    """
    cores.make_devices()
    fields = json.loads(request)
    if fields["cache"]:
        compilation_cache.enable(fields["cache"])
    run = runs.make(*tensors.parse_record(fields))
    training = step_speed.make_training(run, fields["num_images"])
    state, losses = training.run.state, []
    for _ in range(fields["num_steps"]):
        state, metrics = training.train_steps(state, training.images, 1)
        losses.append(float(metrics[run.step.finite_metrics[0]][0]))  # waits
    print(json.dumps({"losses": losses, "finished": time.time()}))
