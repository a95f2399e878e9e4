"""What several tests do."""

import os
import pathlib
import subprocess
import sys

from ifanp_jax.training import metrics_file

ROOT = pathlib.Path(__file__).parents[1]
CLOCKED = ("train/seconds", "train/steps_per_second", "train/images_per_second")


def read_rows(workdir):
    """Rows of metrics.jsonl less what a clock decides."""
    rows = metrics_file.read_metrics(workdir)
    return [{name: value for name, value in row.items() if name not in CLOCKED} for row in rows]


def run_python(*arguments, cwd=ROOT, **environment):
    """Runs Python in a process of its own, with its output as text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def run_main(*arguments, module="ifanp_jax.main", cwd=ROOT, **environment):
    """Runs a command line of the package, as `run_python`."""
    return run_python("-m", module, *arguments, cwd=cwd, **environment)
