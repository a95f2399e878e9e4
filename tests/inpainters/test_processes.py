"""The adversarial training as a process of its own: interrupted, killed, and resumed on other devices."""

import json
import re
import signal

import chex
import numpy as np
import pytest

from ifanp_jax.training import runs
from tests import helpers, tiny
from tests.processes import Process, list_steps, make_starter

NUM_STEPS = 240
FIELDS = {
    "data.source": "arrays",
    "data.image_size": 0,
    "model.widths": "(4, 8)",
    "model.bottleneck": 8,
    "step.critic_width": 4,
    "step.num_critic_updates": 2,
    "train.num_steps": NUM_STEPS,
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
ARGUMENTS = (
    "--config=configs/faces64.py:context_encoder.ContextEncoder",
    *(f"--config.{name}={value}" for name, value in FIELDS.items()),
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    noise = tiny.noise(num_train=40, num_evaluation=8, shape=(16, 16, 3))
    np.save(folder / "train.npy", noise.train)
    np.save(folder / "val.npy", noise.evaluation)
    return f"--config.data.dir={folder}"


@pytest.fixture
def start(images):
    yield from make_starter(*ARGUMENTS, images)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, images):
    process = Process(tmp_path_factory.mktemp("adversarial") / "run", *ARGUMENTS, images)
    assert process.end() == 0, process.text
    return process.workdir


def test_interrupted_and_killed_it_ends_as_if_it_had_not_been(start, tmp_path, uninterrupted):
    workdir = tmp_path / "run"
    process = start(workdir, name="interrupted").wait_for_row(20).send(signal.SIGTERM)
    assert process.end() == 128 + signal.SIGTERM, process.text
    step = int(re.search(r"Saved step (\d+);", process.text)[1])
    assert 20 <= step < NUM_STEPS and step == list_steps(workdir)[-1] and "Traceback" not in process.text
    start(workdir, name="killed").wait_for_row(120).send(signal.SIGKILL).end()
    last = start(workdir)
    assert last.end() == 0, last.text
    assert "Resumed" in last.text
    # Both sides, their optimisers, the average.
    chex.assert_trees_all_equal(runs.load(workdir).state, runs.load(uninterrupted).state)
    assert helpers.read_rows(workdir) == helpers.read_rows(uninterrupted)
    tables = [json.loads((path / "evaluation.json").read_text()) for path in (workdir, uninterrupted)]
    assert tables[0] == tables[1] and len([cell for cell in tables[0]["cells"] if "hole_psnr" in cell]) == 3


def test_a_run_of_two_devices_goes_on_with_one(start, tmp_path, uninterrupted):
    workdir, two = tmp_path / "run", {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    process = start(workdir, name="two", environment=two).wait_for_row(7).send(signal.SIGINT)
    assert process.end() == 128 + signal.SIGINT, process.text
    step = list_steps(workdir)[-1]
    last = start(workdir)
    assert last.end() == 0, last.text
    assert f"at step {step}" in last.text
    first, expected = (helpers.read_rows(path)[0] for path in (workdir, uninterrupted))
    assert first["step"] == expected["step"] == 7
    for name in ("train/mse_loss", "train/critic_loss"):
        assert first[name] == pytest.approx(expected[name], rel=2e-3)
