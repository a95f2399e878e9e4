"""Completion of whole pictures: time and memory, beside classical methods; each in a process of its own."""

import dataclasses
import json
import logging
import statistics
import time

import jax
import numpy as np

from benchmarks import inputs, processes, timing
from ifanp_jax.classical import interpolation, opencv
from ifanp_jax.errors import UserError
from ifanp_jax.inference import tensors
from ifanp_jax.training import runs

logger = logging.getLogger(__name__)

OURS = "this model"
METHODS = ("telea", "biharmonic")
NUM_LATER_CALLS = 3  # of one answer; the median is told
SEED = 0


def measure_pictures(case: inputs.Case) -> list[dict]:
    """One row for each size and number of answers, and for each classical method at it."""
    rows = []
    for size in case.effort.picture_sizes:
        area = size[0] * size[1]
        asked = [(OURS, count) for count in (1, 8) if count == 1 or area <= case.effort.max_answered_pixels]
        asked += [
            (method, 1)
            for method in METHODS
            if method != "biharmonic" or area <= case.effort.max_biharmonic_pixels
        ]
        for method, num_samples in asked:
            request = {"method": method, "size": size, "num_samples": num_samples}
            rows.append(request | _measure(case, request))
            logger.info("%s, %dx%d: measured.", method, *size)
    return rows


def _measure(case, request):
    record = tensors.make_record(case.run.config, case.run.image_shape)
    if jax.default_backend() != "cpu":  # a second process would wait for the device's memory, or fail
        return complete_picture(record | request)
    return processes.run_alone("pictures", "answer_probe", record | request)


def answer_probe(request: str) -> None:
    """Completes a picture and prints what `complete_picture` finds, as JSON.

    Args:
      request: as of `complete_picture`, as JSON.
    """
    print(json.dumps(complete_picture(json.loads(request))))


def complete_picture(request: dict) -> dict:
    """Seconds of the first completion, which compiles or imports, and of later ones; peak memory in MiB.

    Args:
      request: the record of a run, `method`, `size` (H, W) and `num_samples`.

    Returns:
      These, or `left_out` with the reason.
    """
    (h, w), c = request["size"], request["image_shape"][-1]
    generator = np.random.default_rng(SEED)
    image = generator.random((h, w, c), np.float32)
    mask = generator.random((h, w, 1)) < inputs.OBSERVED_SHARE
    complete = _make_completion(request, image, mask)
    seconds = []
    for _ in range(1 + (NUM_LATER_CALLS if request["num_samples"] == 1 else 1)):
        started = time.monotonic()
        try:
            facts = complete()
        except UserError as error:
            return {"left_out": str(error)}
        seconds.append(time.monotonic() - started)
    later = statistics.median(seconds[1:])
    return {"first_seconds": seconds[0], "seconds": later, "peak_mib": timing.peak_mib()} | facts


def _make_completion(request, image, mask):
    """The call that is timed; it answers with facts of it."""
    method = request["method"]
    if method != OURS:
        module = opencv if method in opencv.METHODS else interpolation
        return lambda: {"answer_shape": module.complete(method, image, mask).shape}
    new = runs.make(*tensors.parse_record(request))
    init = jax.jit(lambda key: new.step.init(key, new.image_shape))
    model = dataclasses.replace(new, state=init(jax.random.key(SEED))).model
    num_samples = request["num_samples"]

    def complete():
        # As a user gets it: for one answer the best estimate, for several as many rounds as suit the model.
        result = model.complete(image, mask, num_samples=num_samples, rounds=1 if num_samples == 1 else None)
        return {"rounds": result.rounds, "answer_shape": result.mean.shape}

    return complete
