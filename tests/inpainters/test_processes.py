"""The adversarial training as a process of its own: interrupted on two devices, and resumed on one."""

import signal

import numpy as np
import pytest

from tests import helpers, tiny
from tests.processes import list_steps, make_starter

FIELDS = {
    "data.source": "arrays",
    "data.image_size": 0,
    "model.widths": "(4, 8)",
    "model.bottleneck": 8,
    "step.critic_width": 4,
    "step.num_critic_updates": 2,
    "train.num_steps": 240,
    "train.batch_size": 8,
    "train.ema_decay": 0.9,
    "train.log_every": 7,  # checkpoints fall between the rows
    "train.validate_every": 100,
    "train.checkpoint_every": 50,
    "evaluate.num_images": 4,
    "evaluate.classical_images": 2,
    "evaluate.figure_images": 0,
    "evaluate.halves": False,
}


@pytest.fixture
def start(tmp_path):
    noise = tiny.noise(num_train=40, num_evaluation=8, shape=(16, 16, 3))
    np.save(tmp_path / "train.npy", noise.train)
    np.save(tmp_path / "val.npy", noise.evaluation)
    yield from make_starter(
        "--config=configs/faces64.py:context_encoder.ContextEncoder",
        *(f"--config.{name}={value}" for name, value in FIELDS.items()),
        f"--config.data.dir={tmp_path}",
    )


@pytest.mark.slow
def test_a_run_of_two_devices_goes_on_with_one(start, tmp_path):
    workdir, two = tmp_path / "run", {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    uninterrupted = start(tmp_path / "uninterrupted")
    assert uninterrupted.end() == 0, uninterrupted.text
    process = start(workdir, name="two", environment=two).wait_for_row(7).send(signal.SIGINT)
    assert process.end() == 128 + signal.SIGINT, process.text
    step = list_steps(workdir)[-1]
    last = start(workdir)
    assert last.end() == 0, last.text
    assert f"at step {step}" in last.text
    first, expected = (helpers.read_rows(path)[0] for path in (workdir, tmp_path / "uninterrupted"))
    assert first["step"] == expected["step"] == 7
    for name in ("train/mse_loss", "train/critic_loss"):
        assert first[name] == pytest.approx(expected[name], rel=1e-2)
