"""A run of 8 steps that is made in no time, and the command line on it to an error of one sentence."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from ifanp_jax.training import loop
from tests import helpers, tiny

FIELDS = {  # compiled in no time
    "model.name": "image_np.IFNP",
    "model.width": 4,
    "model.latent_dim": 2,
    "model.encoder_depth": 0,
    "model.decoder_depth": 0,
    "mask.kind": "top",
    "train.num_steps": 8,
    "train.log_every": 1,
    "train.validate_every": 0,
    "train.checkpoint_every": 2,
}
LINES = re.compile(r"(\d\d:\d\d:\d\d .*\n)*error: .*\n")  # of the log, then one sentence


def make_config(**overrides):
    return tiny.make_config(**FIELDS | overrides)


def train(workdir, *, dataset=None, allowed_changes=(), wrap_steps=lambda steps: steps, **overrides):
    return loop.run(
        make_config(**overrides),
        workdir,
        dataset or tiny.digits(),
        allowed_changes=allowed_changes,
        wrap_steps=wrap_steps,
    )


def fail(workdir, *arguments, prefix=(), environ=None, **overrides):
    """Runs the command line with `make_config`, to an error of one sentence, which it returns."""
    fields = [f"--config.{name}={value}" for name, value in (tiny.FIELDS | FIELDS | overrides).items()]
    command = [sys.executable, "-m", "ifanp_jax.main", "--config=configs/digits_ifanp.py", *fields]
    environ = os.environ | {"JAX_PLATFORMS": "cpu"} | (environ or {})
    options = {"cwd": helpers.ROOT, "env": environ, "capture_output": True, "text": True, "timeout": 600}
    result = subprocess.run([*prefix, *command, f"--workdir={workdir}", *arguments], check=False, **options)
    assert result.returncode == 1, result.stderr
    assert LINES.fullmatch(result.stderr), result.stderr
    return result.stderr.splitlines()[-1]


def list_steps(workdir):
    return {int(path.name.removeprefix("step_")) for path in (workdir / "checkpoints").glob("step_*")}


def snapshot(folder):
    """Content and time of everything below a folder."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def spoil(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def record_launches(launched):
    """Wraps `train_steps`: `launched` gets the last step of every dispatch."""

    def wrap(train_steps):
        def recorded_steps(state, images, num_steps):
            launched.append(int(state.step) + num_steps)
            return train_steps(state, images, num_steps)

        return recorded_steps

    return wrap


def after_each(change):
    """Wraps `train_steps` so that they end with `change(state, metrics)`."""

    def wrap(train_steps):
        return lambda *arguments: change(*train_steps(*arguments))

    return wrap


def stop_at(step):
    """Wraps `train_steps`: raises in place of the dispatch that would begin at that step."""

    def wrap(train_steps):
        def stopping(state, *arguments):
            if state.step == step:
                raise KeyboardInterrupt
            return train_steps(state, *arguments)

        return stopping

    return wrap


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run of 8 steps, with checkpoints of 4, 6 and 8."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, train(workdir)


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy to work on."""
    return shutil.copytree(finished[0], tmp_path / "run")
