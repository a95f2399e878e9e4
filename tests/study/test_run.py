"""A study of three tiny models on the digits: rows, figures, and going on after a kill."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from configs import (
    digits_multiscale,
    study_celeba,
    study_celeba_cpu,
    study_choices_digits,
    study_digits,
    study_mnist,
    study_mnist_cpu,
    study_recipes_digits,
)
from ifanp_jax import configuration, metrics, training
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation.contexts import load_contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.models import parameters
from ifanp_jax.study import equal_time, one_run, run, summary
from ifanp_jax.training import metrics_file, runs
from tests import tiny
from tests.study import short_study
from tests.study.short_study import MODELS


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return short_study.run_in(tmp_path_factory.mktemp("study"))


def test_one_row_per_model_mask_and_fraction(finished):
    rows = finished[1]["rows"]
    cells = [("random", 0.2), ("random", 0.6), *((side, 0.5) for side in ("top", "bottom", "left", "right"))]
    expected = [(name, *cell) for name in MODELS for cell in cells]
    assert [(row["method"], row["mask"], row["fraction"]) for row in rows] == expected
    for row in rows:
        assert {"psnr", "psnr_completed", "psnr_unobserved", "log_prob", "crps", "coverage"} <= set(row)
        assert ("kl" in row) == (row["method"] != "point_np.CNP-ours")
        assert row["num_images"] == 6
        low, high = row["psnr_interval"]
        assert low <= row["psnr"] <= high


def test_rows_are_the_numbers_of_the_runs(finished):
    workdir, result = finished
    evaluation = json.loads((workdir / "image_np.IFNP_seed0" / "evaluation.json").read_text())
    for row, cell in zip(result["rows"], evaluation["cells"], strict=False):
        assert row["psnr"] == pytest.approx(cell["psnr"])
        assert row["psnr_interval"] == pytest.approx(cell["psnr_interval"])


def test_differences_are_paired(finished):
    rows, comparisons = finished[1]["rows"], finished[1]["comparisons"]
    psnr = {(row["method"], row["mask"], row["fraction"]): row["psnr"] for row in rows}
    assert len(comparisons) == 2 * 6 * 2  # raw and completed PSNR
    for entry in comparisons:
        low, high = entry["interval"]
        assert low <= entry["difference"] <= high
        if entry["metric"] == "psnr":
            cell = entry["mask"], entry["fraction"]
            expected = psnr[entry["higher"], *cell] - psnr[entry["lower"], *cell]
            assert entry["difference"] == pytest.approx(expected, abs=1e-5)
            lower, higher = (read_psnr(finished[0], entry[name], *cell) for name in ("lower", "higher"))
            interval = metrics.bootstrap_interval(higher - lower, seed=0)
            assert entry["interval"] == pytest.approx(list(interval))


def summarise(config, workdir):
    options = Options.of(config)
    contexts = load_contexts(options, (options.num_images, 8, 8))
    return summary.summarise(config, workdir, tiny.digits(), contexts)


def read_psnr(workdir, name, kind, fraction):
    with np.load(workdir / f"{name}_seed0" / "evaluation.npz", allow_pickle=False) as archive:
        return archive[f"{kind} {fraction:g} psnr"]


def test_a_value_is_the_mean_over_seeds_image_by_image(finished, tmp_path):
    for name in MODELS:
        for seed in (0, 1):
            shutil.copytree(finished[0] / f"{name}_seed0", tmp_path / f"{name}_seed{seed}")
    path = tmp_path / "image_np.IFNP_seed1" / "evaluation.npz"
    with np.load(path, allow_pickle=False) as archive:
        values = dict(archive)
    shift = np.arange(6.0)
    name = "random 0.2 psnr"
    np.savez(path, **values | {name: values[name] + shift})
    config = short_study.make_config(**{"evaluate.classical_images": 0})
    config.study.seeds = (0, 1)
    result = summarise(config, tmp_path)
    row, expected = result["rows"][0], finished[1]["rows"][0]
    by_seed = result["models"]["image_np.IFNP"]["psnr_by_seed"]
    assert by_seed == pytest.approx([expected["psnr"], expected["psnr"] + shift.mean()])
    assert row["psnr"] == pytest.approx(expected["psnr"] + shift.mean() / 2)
    interval = metrics.bootstrap_interval(values[name] + shift / 2, seed=config.evaluate.seed)
    assert row["psnr_interval"] == pytest.approx(list(interval))
    assert result["seeds"] == [0, 1]


def test_the_time_of_a_training_is_the_measured_one(finished):
    for name, facts in finished[1]["models"].items():
        rows = metrics_file.read_metrics(finished[0] / f"{name}_seed0")
        assert facts["training_seconds"] == rows[-1]["train/seconds"] > 0 and facts["num_parameters"] > 0


def test_the_time_is_the_mean_over_seeds_and_none_where_one_is_lost(finished, tmp_path):
    config = short_study.make_config(**{"evaluate.classical_images": 0})
    config.study.models, config.study.seeds = MODELS[:1], (0, 1)
    for seed in config.study.seeds:
        directory = shutil.copytree(finished[0] / f"{MODELS[0]}_seed0", tmp_path / f"{MODELS[0]}_seed{seed}")
        rows = [{"step": step, "train/seconds": (seed + 1) * step} for step in (2, 4)]
        (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert summarise(config, tmp_path)["models"][MODELS[0]]["training_seconds"] == 6  # of 4 and 8
    (directory / "metrics.jsonl").unlink()
    assert summarise(config, tmp_path)["models"][MODELS[0]]["training_seconds"] is None


def test_figures_are_drawn(finished):
    from PIL import Image

    for name in "abcd":
        with Image.open(finished[0] / f"figure_{name}.png") as picture:
            assert min(picture.size) > 200


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(tmp_path, finished):
    class KilledError(Exception):
        pass

    trained = []

    def train(config, *rest, **options):
        if len(trained) == limit:
            raise KilledError
        trained.append(pathlib.Path(rest[0]).name)
        return training.run(config, *rest, **options)

    limit = 1
    with pytest.raises(KilledError):
        run.run(short_study.make_config(), tmp_path, tiny.digits(), train_run=train)
    limit = len(MODELS)
    result = run.run(short_study.make_config(), tmp_path, tiny.digits(), train_run=train)
    assert trained == [f"{name}_seed0" for name in MODELS]  # the first one only once
    for row, expected in zip(result["rows"], finished[1]["rows"], strict=True):
        assert row["psnr"] == expected["psnr"]


@pytest.mark.slow
def test_at_equal_time_a_model_has_the_steps_that_fit_counted_once(tmp_path):
    class StoppedError(Exception):
        pass

    def train(one, workdir, *_, **__):
        asked.append(one.train.num_steps)
        workdir.mkdir(exist_ok=True)
        runs.write(workdir, one, (8, 8, 1))
        raise StoppedError

    config, asked = short_study.make_config(), []
    config.study.models, config.study.minutes, config.study.seeds = MODELS[:1], 2e-4, (1, 0)
    for _ in range(2):
        with pytest.raises(StoppedError):
            run.run(config, tmp_path, tiny.digits(), train_run=train)
    assert asked[0] == asked[1] == equal_time.num_steps_of(config, tmp_path, MODELS[0]) >= 1
    assert equal_time.num_steps_of(config, tmp_path, MODELS[1]) is None
    config.study.minutes = 0.0
    assert equal_time.num_steps_of(config, tmp_path, MODELS[0]) == config.train.num_steps


def test_another_configuration_in_the_same_folder_is_refused(finished):
    with pytest.raises(UserError, match=r"train.num_steps: 4 -> 6"):
        run.run(short_study.make_config(**{"train.num_steps": 6}), finished[0], tiny.digits())


@pytest.mark.parametrize(("part", "name"), [("train", "training"), ("evaluation", "held-out")])
def test_finished_runs_of_other_images_are_refused(finished, part, name):
    other = dataclasses.replace(tiny.digits(), **{part: 255 - getattr(tiny.digits(), part)})
    with pytest.raises(UserError, match=f"IFNP_seed0 holds a run on other {name} images"):
        run.run(short_study.make_config(), finished[0], other)


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation.npz"])
@pytest.mark.parametrize("content", [b"", b'{"cells": [', b"PK\x03\x04 cut off"])
def test_a_finished_run_with_damaged_tables_says_what_to_do(finished, tmp_path, name, content):
    workdir = shutil.copytree(finished[0], tmp_path / "study")
    (workdir / "image_np.IFANP_seed0" / name).write_bytes(content)
    with pytest.raises(
        UserError, match=r"IFANP_seed0 cannot be read .*; remove its evaluation\.json"
    ) as caught:
        run.run(short_study.make_config(), workdir, tiny.digits())
    assert "\n" not in str(caught.value)


def test_a_wrong_model_ends_before_anything_is_trained(tmp_path):
    config = short_study.make_config()
    config.study.models = ("image_np.IFNP", "point_np.Unknown")
    with pytest.raises(UserError, match=r"point_np\.Unknown"):
        run.run(config, tmp_path, tiny.digits())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "module", [study_digits, study_mnist, study_mnist_cpu, study_celeba, study_celeba_cpu]
)
def test_parameter_counts_are_within_a_fifth_of_those_of_ifanp(module):
    config = module.get_config()
    shape = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "celeb_a": (32, 32, 3)}[config.data.name]

    def count(name):
        one = one_run.config_of(config, name, 0)
        configuration.check(one)
        return parameters.count_parameters(runs.abstract_state(runs.make(one, shape)).params)

    ifanp = count("image_np.IFANP")
    for name in study_digits.BASELINES:
        assert 0.8 * ifanp <= count(name) <= 1.2 * ifanp, name


def test_a_name_with_a_change_is_the_model_by_our_training():
    config = study_recipes_digits.get_config()
    configuration.check(config)
    names = [*study_digits.get_config().study.models, "multiscale_np.MultiscaleNP"]
    assert set(config.study.models) == {*names} | {study_recipes_digits.by_ours(name) for name in names}
    for name in names:
        ours = one_run.config_of(config, study_recipes_digits.by_ours(name), 0)
        expected = digits_multiscale.get_config(name)
        expected.model.has_covariance = False  # of no effect on one channel
        expected.train.update(num_steps=config.train.num_steps, validate_every=0)
        for group in ("data", "mask", "model", "objective", "train"):
            assert ours[group].to_dict() == expected[group].to_dict(), (name, group)
        paper = one_run.config_of(config, name, 0)
        assert (paper.mask.kind, paper.model.likelihood) == ("random", "fixed")
        assert (paper.evaluate.rounds, ours.evaluate.rounds) == (0, expected.evaluate.rounds)
        assert (name, study_recipes_digits.by_ours(name)) in config.study.order
    seeds = study_recipes_digits.get_config("ours").study
    assert seeds.seeds == (0, 1, 2) and set(seeds.models) == set(config.study.order[-1])
    with pytest.raises(UserError, match="'theirs' names no part of this study"):
        study_recipes_digits.get_config("theirs")


def test_the_study_of_choices_changes_one_field_at_a_time():
    for which, group, fields in (
        ("optimizers", "train", {"optimizer", "learning_rate"}),
        ("activations", "model", {"activation"}),
    ):
        config = study_choices_digits.get_config(which)
        configuration.check(config)
        for other, name in config.study.order:
            changed, ours = (one_run.config_of(config, one, 0) for one in (other, name))
            differing = {line.partition(":")[0] for line in configuration.differences(ours, changed)}
            assert differing == {f"{group}.{field}" for field in fields}, other
    with pytest.raises(UserError, match="'losses' names no part of this study"):
        study_choices_digits.get_config("losses")


def test_runs_of_a_study_share_all_but_model_and_seed():
    config = study_digits.get_config()
    first, second = (
        one_run.config_of(config, "image_np.IFANP", 0),
        one_run.config_of(config, "point_np.CNP", 1),
    )
    assert "study" not in first
    differing = {
        line.partition(":")[0].partition(".")[0] for line in configuration.differences(first, second)
    }
    assert differing == {"model", "seed"}
    assert second.model.likelihood == config.model.likelihood
