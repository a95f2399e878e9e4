"""`ifanp_jax.main`, whose process 1 waits for ever after some steps while its heart still beats."""

import runpy
import sys
import time

from ifanp_jax.runtime import heartbeat

STALLED_AFTER = 30  # steps
report = heartbeat.report_progress


def report_and_stall(step):
    report(step)
    if step >= STALLED_AFTER and "--process_id=1" in sys.argv:
        time.sleep(1e6)


if __name__ == "__main__":
    heartbeat.report_progress = report_and_stall
    runpy.run_module("ifanp_jax.main", run_name="__main__", alter_sys=True)
