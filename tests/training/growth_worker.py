"""What `test_reliability.py` runs in a process of its own: memory and compilations of 5,000 steps.

python -m tests.training.growth_worker WORKDIR
"""

import ctypes
import json
import sys

import jax

from ifanp_jax.runtime import heartbeat
from ifanp_jax.training import loop
from tests import tiny

NUM_STEPS, WARM_UP, SAMPLE_EVERY = 5000, 1000, 500


def resident_bytes():
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free but not given back does not count
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def run(workdir):
    config = tiny.make_config(
        **{
            "model.width": 4,
            "train.batch_size": 2,
            "train.num_steps": NUM_STEPS,
            "train.log_every": 10,
            "train.validate_every": 250,
            "train.checkpoint_every": 250,
        }
    )
    record = {"bytes": [], "compilations": [], "last_step": 0}
    compilations = []

    def count(name, *_, **__):
        if name.endswith("backend_compile_duration"):
            compilations.append(name)

    jax.monitoring.register_event_duration_secs_listener(count)

    def sample(step):
        record["last_step"] = max(record["last_step"], step)
        if step >= WARM_UP and step % SAMPLE_EVERY == 0:
            record["bytes"].append(resident_bytes())
            record["compilations"].append(len(compilations))

    heartbeat.report_progress = sample  # called once per dispatch
    loop.run(config, workdir, tiny.digits())
    print(json.dumps(record))


if __name__ == "__main__":
    run(sys.argv[1])
