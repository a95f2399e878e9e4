"""Training on arrays from Python."""

import json
import logging

import chex
import numpy as np
import pytest

import ifanp_jax
from ifanp_jax.errors import UserError
from ifanp_jax.training import runs
from tests import helpers, tiny

FEW = {
    "model.width": 8,
    "train.num_steps": 2,
    "train.batch_size": 4,
    "train.validate_every": 0,
    "train.log_every": 1,
    "evaluate.fractions": (0.4,),
    "evaluate.halves": False,
    "evaluate.rounds": 0,
    "evaluate.num_samples": 1,
    "evaluate.classical_images": 2,
    "evaluate.figure_images": 0,
}
CONFIG = "own_multiscale:point_np.CNP"
IMAGES = tiny.digits().train[:40, :, :, 0]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture(scope="module")
def trained(workdir):
    return ifanp_jax.train(IMAGES / 255, workdir=workdir, config=CONFIG, overrides=FEW, name="my digits")


def test_arrays_are_split_and_kept_beside_the_run(trained, workdir):
    assert trained.run.num_steps_done == 2 and trained.run.image_shape == (8, 8, 1)
    parts = [np.load(workdir / "data" / f"{name}.npy") for name in ("train", "val")]
    assert [len(part) for part in parts] == [36, 4]
    given = sorted(image.tobytes() for image in IMAGES)
    assert sorted(image.tobytes() for part in parts for image in part) == given
    record = json.loads((workdir / "run.json").read_text())["config"]["data"]
    assert record["source"] == "arrays" and record["dir"] == str(workdir / "data")
    assert record["name"] == "my digits" and record["image_size"] == 0


def test_what_was_trained_completes_and_can_be_loaded(trained, workdir):
    image, mask = IMAGES[0], helpers.left_half(8, 8)
    result = trained.complete(image, mask, num_samples=1)
    np.testing.assert_array_equal(result.mean[..., 0][mask], (image / np.float32(255))[mask])
    loaded = ifanp_jax.load(workdir).complete(image, mask, num_samples=1)
    np.testing.assert_array_equal(result.mean, loaded.mean)


def test_it_is_evaluated_on_what_was_held_out(trained, workdir, capsys):
    evaluation = trained.evaluate()
    assert evaluation["data"] == "my digits" and evaluation["cells"][0]["num_images"] == 4
    assert "random 40%" in capsys.readouterr().out
    assert json.loads((workdir / "evaluation.json").read_text()) == json.loads(json.dumps(evaluation))


@pytest.mark.slow
def test_the_command_line_evaluates_it_to_the_same_numbers(trained, workdir):
    expected = trained.evaluate()["cells"]
    (workdir / "evaluation.json").unlink()
    result = helpers.run_main("evaluate", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert json.loads((workdir / "evaluation.json").read_text())["cells"] == json.loads(json.dumps(expected))


def test_the_same_call_goes_on_and_other_images_are_refused(trained, workdir):
    again = ifanp_jax.train(IMAGES, workdir=workdir, config=CONFIG, overrides=FEW, name="my digits")
    assert again.run.num_steps_done == 2
    with pytest.raises(UserError, match="holds a run on other images"):
        ifanp_jax.train(IMAGES[::-1], workdir=workdir, config=CONFIG, overrides=FEW)
    with pytest.raises(UserError, match="overrides is a list but must be a dict of fields"):
        ifanp_jax.train(IMAGES, config=CONFIG, overrides=["train.num_steps=5"])


def test_it_starts_from_another_training(trained, workdir, tmp_path, capsys):
    overrides = FEW | {"train.init_from": str(workdir), "train.num_steps": 1, "train.learning_rate": 0.0}
    started = ifanp_jax.train(IMAGES, workdir=tmp_path / "run", config=CONFIG, overrides=overrides)
    assert f"Parameters of {workdir}, point_np.CNP after 2 steps" in capsys.readouterr().err
    # a step of no length, after which the average is rounded
    chex.assert_trees_all_close(started.run.variables, trained.run.variables, rtol=1e-6)


def test_the_log_is_shown_where_the_program_shows_none(trained, workdir, capsys, monkeypatch):
    logger = logging.getLogger("ifanp_jax")
    before = logger.level, list(logger.handlers)
    ifanp_jax.train(IMAGES, workdir=workdir, config=CONFIG, overrides=FEW, name="my digits")
    assert "Nothing to train: step 2 of 2 is done." in capsys.readouterr().err
    assert before == (logger.level, list(logger.handlers))


def test_without_a_folder_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match=r"config\.data\.random_crop is 9"):
        ifanp_jax.train(IMAGES, config=CONFIG, overrides=FEW | {"data.random_crop": 9})
    with pytest.raises(UserError, match=r"config\.data\.random_scale is .*crops of 6 pixels .* out of 12"):
        ifanp_jax.train(
            IMAGES, config=CONFIG, overrides=FEW | {"data.random_crop": 6, "data.random_scale": (0.5, 1.0)}
        )
    config = "photos_multiscale:point_np.CNP"  # whose random crops are larger than these images
    trained = ifanp_jax.train(IMAGES, held_out=IMAGES[:3], config=config, overrides=FEW)
    assert (
        trained.run.image_shape == (8, 8, 1)
        and len(trained.dataset.evaluation) == 3
        and runs.read(trained.workdir) is not None
    )
    del trained
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (IMAGES[0], {}, r"images has shape \(8, 8\)"),
        (IMAGES[:0], {}, r"images has shape \(0, 8, 8\) and so holds nothing"),
        ([IMAGES[0], IMAGES[1, :5]], {}, "images holds images of different shapes"),
        (IMAGES.astype(int), {}, "dtype int64 but must be uint8"),
        (IMAGES / 10, {}, r"from 0 to 25\.5 but floats must lie in \[0, 1\]"),
        (np.full((3, 8, 8), np.nan), {}, r"values that are NaN but floats must lie in \[0, 1\]"),
        (IMAGES[:1], {}, "images holds only one image"),
        (IMAGES, {"overrides": {"data.eval_fraction": 1.0}}, r"eval_fraction is 1\.0 but must lie between"),
        (IMAGES, {"held_out": IMAGES[..., None].repeat(2, -1)}, r"held_out has shape \(40, 8, 8, 2\)"),
        (IMAGES, {"overrides": {"data.dir": "x"}}, "sets data.dir, which train sets itself"),
        (IMAGES, {"overrides": {"train.steps": 1}}, "train.steps, which own_multiscale does not have"),
        (IMAGES, {"overrides": {"train.num_steps": "many"}}, r"sets train\.num_steps: "),
        (IMAGES, {"overrides": {"train.num_steps": 0}}, "config.train.num_steps is 0"),
        (IMAGES, {"config": "none"}, "no shipped configuration"),
    ],
)
def test_bad_input_is_one_sentence(images, options, message):
    with pytest.raises(UserError, match=message):
        ifanp_jax.train(images, **options)
