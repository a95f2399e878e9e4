"""The script that measures an accelerator: what it starts, and, on tiny sizes, that all of it works."""

import numpy as np
import pytest

from tests.launch.commands import LAUNCH

SCRIPT = LAUNCH / "measure_accelerator.sh"
TINY = "--config.train.batch_size=2 --image_size=16 --picture_size=16"
TINY_INPAINTER = "--config.model.width=4 --config.step.critic_width=4 --config.step.num_critic_updates=1"


def test_it_measures_each_model_in_both_dtypes_and_trains_where_there_are_images(fakes, tmp_path):
    fakes.add("python")
    (tmp_path / "mnist").mkdir()
    (tmp_path / "arrays").mkdir()
    status, output = fakes.run(SCRIPT, tmp_path / "results", tmp_path / "mnist", tmp_path / "arrays")
    assert status == 0, output
    calls = [" ".join(call[1:]) for call in fakes.calls()]
    for config in (
        "celeba_ifanp.py",
        "mnist_ifanp.py",
        "celeba_multiscale.py",
        "faces64.py:deepfill.DeepFill64",
    ):
        for dtype in ("bfloat16", "float32"):
            assert any(
                f"benchmark --config=configs/{config} --config.model.compute_dtype={dtype}" in call
                for call in calls
            )
    trained = [call.split("--workdir=")[1].split()[0] for call in calls if "ifanp_jax.main" in call]
    assert [path.rsplit("/")[-1] for path in trained] == ["mnist", "celeba", "celeba_multiscale"]
    status, output = fakes.run(SCRIPT, tmp_path / "results")
    assert status == 0 and len(fakes.calls()) == len(calls) + 10  # without images nothing is trained


def test_trainings_of_before_are_refused(fakes, tmp_path):
    (tmp_path / "celeba").mkdir()
    status, output = fakes.run(SCRIPT, tmp_path)
    assert status == 1 and "name a new folder" in output


@pytest.mark.slow
def test_all_of_it_works_on_tiny_sizes(fakes, tmp_path):
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    generator = np.random.default_rng(0)
    for name, count in (("train", 20), ("val", 4)):
        np.save(arrays / f"{name}.npy", generator.integers(0, 256, (count, 32, 32, 3), np.uint8))
    training_flags = " ".join(
        [
            "--config.train.num_steps=2",
            "--config.train.batch_size=2",
            "--config.evaluate.num_images=2",
            "--config.evaluate.classical_images=0",
            "--config.evaluate.rounds=0",
            "--config.evaluate.fractions=(0.2,)",
            "--config.evaluate.halves=False",
            "--config.evaluate.figure_images=0",
        ]
    )
    status, output = fakes.run(
        SCRIPT,
        tmp_path / "results",
        "",
        arrays,
        BENCHMARK_FLAGS=TINY,
        INPAINTER_FLAGS=TINY_INPAINTER,
        TRAINING_FLAGS=training_flags,
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
    )
    assert status == 0, output
    table = (tmp_path / "results" / "accelerator.md").read_text()
    assert table.count("| bfloat16 |") == table.count("| float32 |") == 4
    assert "deepfill.DeepFill64, 16x16x3, batch 2" in table and "multiscale_np.MultiscaleNP" in table
    assert "celeba_multiscale: " in (tmp_path / "results" / "seconds.txt").read_text()
