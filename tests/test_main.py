"""The command line, as a person runs it."""

import dataclasses
import json
import pathlib
import types

import chex
import numpy as np
import pytest
from PIL import Image

from ifanp_jax import commands
from ifanp_jax.training import runs
from tests import tiny
from tests.helpers import ROOT, run_main, run_many_mains

CONFIG = "--config=digits_ifanp"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("main") / "run"
    result = run_main(CONFIG, f"--workdir={workdir}", *tiny.flags())
    assert result.returncode == 0, result.stderr
    assert "Fresh start" in result.stderr and "random 20%" in result.stdout
    return workdir


def test_training_leaves_everything_in_the_workdir(workdir):
    names = {path.name for path in workdir.iterdir()}
    files = {
        "evaluation.json",
        "evaluation.md",
        "evaluation.npz",
        "completions.png",
        "reliability.png",
        "training.png",
        "metrics.jsonl",
        "run.json",
    }
    assert files | {"checkpoints", "tensorboard"} <= names
    assert json.loads((workdir / "evaluation.json").read_text())["step"] == 6


@pytest.mark.slow  # `training/test_init_from.py` has the fast ones
def test_a_training_starts_from_another_one(workdir, tmp_path):
    fields = tiny.flags(**{"train.num_steps": 1, "train.learning_rate": 0.0, "train.init_from": workdir})
    result = run_main(CONFIG, f"--workdir={tmp_path / 'run'}", *fields)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(f"Parameters of {workdir}, image_np.IFANP after 6 steps") == 1
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["config"]["train"]["init_from"] == str(workdir)
    # a step of no length, after which the average is rounded
    chex.assert_trees_all_close(
        runs.load(tmp_path / "run").variables, runs.load(workdir).variables, rtol=1e-6
    )


def test_evaluation_of_a_run_gives_its_numbers_again(workdir):
    before = (workdir / "evaluation.json").read_text()
    (workdir / "evaluation.json").unlink()
    result = run_main("--mode=evaluate", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    assert (workdir / "evaluation.json").read_text() == before


def test_completion_of_a_picture_and_a_failure_beside_it(workdir, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    mask = np.random.default_rng(1).random((8, 8)) < 0.5
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(pixels).save(pictures / "good.png")
    (pictures / "broken.png").write_bytes(b"no picture")
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    result = run_main(
        "--mode=complete", f"--workdir={workdir}", f"--input={pictures}", f"--mask={tmp_path / 'mask.png'}",
        f"--output={tmp_path / 'done'}", "--num_samples=2", "--rounds=2", "--temperature=0.8",
    )  # fmt: skip
    assert result.returncode == 1
    assert "broken.png" in result.stderr and "Traceback" not in result.stderr
    names = {path.name for path in (tmp_path / "done").iterdir()}
    assert names - {"completed.json"} == {
        f"good_{name}.png" for name in ("completed", "sample_1", "sample_2", "mean", "uncertainty", "preview")
    }
    mean = np.asarray(Image.open(tmp_path / "done" / "good_mean.png"))
    np.testing.assert_array_equal(mean[mask], pixels[mask])


def test_a_configuration_is_found_by_its_path_from_any_folder(tmp_path):
    path = ROOT / "configs" / "digits_ifanp.py"
    (tmp_path / "digits_ifanp.py").write_text(path.read_text())
    for value in (path, "~/digits_ifanp.py"):
        result = run_main(f"--config={value}", "--config.nope=1", cwd=tmp_path, HOME=str(tmp_path))
        assert "config.nope is no field of the configuration; config has data, " in result.stderr


BAD = [
    ((), "--workdir is missing"),
    (("--workdir=nowhere",), "--config is missing"),
    (("--workdir=nowhere", "--config=configs/none.py"), "is no file and no shipped configuration"),
    (("--workdir=nowhere", "--config", "none"), "give a path, or one of ablation_celeba"),
    (("--workdir=nowhere", "--config", "digits_ifanp", "--config.nope=1"), "config has data, evaluate"),
    (("--workdir=nowhere", "--config=digits:image_np.None"), "'image_np.None', which is no model"),
    (("--workdir=nowhere", f"{CONFIG}:point_np.ANP"), "cannot be used"),
    (("--workdir=nowhere", "--config=tests/tiny.py"), "--config=tests/tiny.py cannot be used"),
    ((CONFIG, "--workdir=nowhere", "--num_samples=two"), "--num_samples is 'two'; it must be a whole"),
    ((CONFIG, "--workdir=nowhere", "--mode=test"), "should be one of <train|evaluate|"),
    ((CONFIG, "--workdir=nowhere", "--workdirs=other"), "--workdirs is no flag"),
    ((CONFIG, "--workdir=nowhere", "--config.train.nope=1"), "config.train.nope is no field"),
    ((CONFIG, "--workdir=nowhere", "--config.model.nope=1"), "config.model has "),
    (("--workdir=nowhere", "--config.seed=1"), "--config.seed needs --config=NAME_OR_FILE"),
    ((CONFIG, "--workdir=nowhere", "--config.train.num_steps=abc"), "it must be a whole number"),
    ((CONFIG, "--workdir=nowhere", "--config.train.learning_rate=1,5"), "'1,5'; it must be a number"),
    ((CONFIG, "--workdir=nowhere", "--config.train.batch_size=0"), "it must be at least 1"),
    ((CONFIG, "--workdir=nowhere", "--config.mask.fraction=2.0"), "config.mask.fraction is (2.0,)"),
    ((CONFIG, "--workdir=nowhere", "--config.mask.kind=diagonal"), "choose one of random"),
    ((CONFIG, "--workdir=nowhere", "--config.model.name=image_np.None"), "is no model"),
    ((CONFIG, "--workdir=nowhere", "--config.data.source=arrays"), "data.dir is empty"),
    ((CONFIG, "--workdir=nowhere", "--config.data.crop_box=abc"), "data.crop_box is"),
    ((CONFIG, "--workdir=nowhere", "--config.evaluate.fractions=abc"), "give observed shares"),
    ((CONFIG, "--workdir=nowhere", "--config.mask.kind=file", "--config.mask.file=none.png"), "none.png"),
    ((CONFIG, "--workdir=README.md"), "is a file"),
    ((CONFIG, "--workdir=gs://bucket/run"), "is no folder"),
    ((CONFIG, "--workdir=nowhere", "stray"), "is no flag"),
    (("complete", "--workdir=nowhere", "--model=photos"), "--workdir and --model are both given"),
    (("complete",), "or a shipped model by --model"),
    (("--model=photos",), "--mode=train needs --workdir"),
    (("complete", "--model=no", "--input=i", "--output=nowhere"), "There is no model 'no'"),
    (("evaluate", "--model=photos"), "needs --config for the data"),
    (
        ("evaluate", "--model=photos", CONFIG, "--output=nowhere", "--config.model.width=3"),
        "config.model.width",
    ),
    (
        (CONFIG, "--workdir=nowhere", "--config.protocol=npf", "--config.mask.kind=top"),
        "config.mask.kind=random, but it is given as top",
    ),
    (("--workdir=nowhere", "--mode=evaluate"), "holds no run"),
    (("--workdir=nowhere", "--mode=complete"), "--input is missing"),
    (("--mode=complete", "--input=a", "--output=b", "--method=spline"), "choose one of nearest"),
    (("--workdir=nowhere", "--mode=export"), "--output is missing"),
    (("serve", "--workdir=nowhere"), "holds no run"),
    ((CONFIG, "--workdir=nowhere", "--mode=study"), "needs --config with a study"),
    ((CONFIG, "--workdir=nowhere", "--config.protocol=other"), "config.protocol is 'other'"),
    ((CONFIG, "--workdir=nowhere", "--num_processes=2"), "are not complete"),
    ((CONFIG, "--workdir=nowhere", "--compilation_cache=setup.py"), "setup.py cannot be made"),
]  # fmt: skip


def test_what_fails_at_once_is_one_sentence():
    home = ("--mode=evaluate", "--workdir=~/no_run_of_a_test")
    lines = [*(arguments for arguments, _ in BAD), home, ("--help",)]
    *results, tilde, helped = run_many_mains(lines)
    for (arguments, message), result in zip(BAD, results, strict=True):
        told = (arguments, result.stderr)
        assert result.returncode == 1 and message in result.stderr, told
        assert result.stderr.startswith("error: ") and len(result.stderr.strip().splitlines()) == 1, told
    assert not (ROOT / "nowhere").exists()
    assert tilde.stderr.startswith(f"error: {pathlib.Path.home()}/no_run_of_a_test holds no run")
    assert helped.returncode == 0
    assert all(flag in helped.stdout for flag in ("--workdir", "--mode", "--config"))


@pytest.mark.parametrize(("count", "words"), [(1, "1 file of"), (2, "2 files of")])
def test_skipped_files_are_counted(monkeypatch, caplog, count, words):
    dataset = dataclasses.replace(tiny.noise(), name="mine", skipped=("a.png: broken",) * count)
    monkeypatch.setattr("ifanp_jax.data.sources.load", lambda config_data: dataset)
    commands.load_data(types.SimpleNamespace(data=types.SimpleNamespace(name="")))
    assert caplog.messages[-1] == f"Skipped {words} mine in all."
