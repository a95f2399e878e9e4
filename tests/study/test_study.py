"""A study of three tiny models on the digits: rows, tables, figures, and going on after a kill."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from configs import (
    celeba_ifanp,
    digits_ifanp,
    mnist_ifanp,
    study_celeba,
    study_celeba_cpu,
    study_digits,
    study_mnist,
    study_mnist_cpu,
)
from ifanp_jax import configuration, metrics
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import evaluate
from ifanp_jax.study import run as study
from ifanp_jax.training import loop, parameters, runs

MODELS = ("image_np.IFNP", "image_np.IFANP", "point_np.CNP")


def tiny_config(**overrides):
    config = study_digits.get_config()
    config.study.models = MODELS
    config.study.variants = MODELS[:2]
    config.study.figure_a = MODELS
    config.study.order = (("image_np.IFNP", "image_np.IFANP"), ("point_np.CNP", "image_np.IFANP"))
    config.study.published = (("image_np.IFNP", ((0.6, 15.4), (0.3, 15.5))),)
    for name in MODELS:
        family, variant = name.split(".")
        config.study.fields[family][variant].update(width=8, latent_dim=4, encoder_depth=1, decoder_depth=1)
    config.update_from_flattened_dict(
        {
            "train.num_steps": 4,
            "train.batch_size": 8,
            "train.log_every": 2,
            "train.validate_every": 0,
            "train.checkpoint_every": 2,
            "evaluate.num_images": 6,
            "evaluate.num_samples": 3,
            "evaluate.fractions": (0.2, 0.6),
            "evaluate.classical_images": 2,
            "evaluate.figure_images": 2,
        }
        | overrides
    )
    return config


@pytest.fixture(scope="module")
def digits():
    return sources.get(study_digits.get_config().data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, digits):
    workdir = tmp_path_factory.mktemp("study")
    return workdir, study.run(tiny_config(), workdir, digits)


def test_one_row_per_model_mask_and_fraction(finished):
    rows = finished[1]["rows"]
    cells = [("random", 0.2), ("random", 0.6), *((side, 0.5) for side in ("top", "bottom", "left", "right"))]
    expected = [(name, *cell) for name in MODELS for cell in cells]
    assert [(row["model"], row["mask"], row["fraction"]) for row in rows] == expected
    for row in rows:
        assert {"psnr", "psnr_completed", "psnr_unobserved", "kl", "log_prob", "crps", "coverage"} <= set(row)
        assert row["num_images"] == 6 and row["num_parameters"] > 0 and row["training_seconds"] > 0
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
    psnr = {(row["model"], row["mask"], row["fraction"]): row["psnr"] for row in rows}
    assert len(comparisons) == 2 * 6 * len(study.COMPARED)
    for entry in comparisons:
        low, high = entry["interval"]
        assert low <= entry["difference"] <= high
        if entry["metric"] == "psnr":
            cell = entry["mask"], entry["fraction"]
            expected = psnr[entry["higher"], *cell] - psnr[entry["lower"], *cell]
            assert entry["difference"] == pytest.approx(expected, abs=1e-5)
            lower, higher = (read_psnr(finished[0], entry[name], *cell) for name in ("lower", "higher"))
            interval = metrics.bootstrap_interval(higher - lower, seed=tiny_config().evaluate.seed)
            assert entry["interval"] == pytest.approx(list(interval))


def read_psnr(workdir, name, kind, fraction):
    with np.load(workdir / f"{name}_seed0" / "evaluation.npz", allow_pickle=False) as archive:
        return archive[evaluate.value_name(kind, fraction, "psnr")]


def test_a_value_is_the_mean_over_seeds_image_by_image(finished, digits, tmp_path):
    for name in MODELS:
        for seed in (0, 1):
            shutil.copytree(finished[0] / f"{name}_seed0", tmp_path / f"{name}_seed{seed}")
    path = tmp_path / "image_np.IFNP_seed1" / "evaluation.npz"
    with np.load(path, allow_pickle=False) as archive:
        values = dict(archive)
    shift = np.arange(6.0)
    name = evaluate.value_name("random", 0.2, "psnr")
    np.savez(path, **values | {name: values[name] + shift})
    config = tiny_config(**{"evaluate.classical_images": 0})
    config.study.seeds = (0, 1)
    result = study.summarise(config, tmp_path, digits)
    row, expected = result["rows"][0], finished[1]["rows"][0]
    assert row["psnr_by_seed"] == pytest.approx([expected["psnr"], expected["psnr"] + shift.mean()])
    assert row["psnr"] == pytest.approx(expected["psnr"] + shift.mean() / 2)
    interval = metrics.bootstrap_interval(values[name] + shift / 2, seed=config.evaluate.seed)
    assert row["psnr_interval"] == pytest.approx(list(interval))
    assert result["seeds"] == [0, 1]


def test_files_hold_the_study(finished):
    workdir, result = finished
    assert json.loads((workdir / "study.json").read_text()) == result
    with (workdir / "study.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["psnr"]) for row in table] == [row["psnr"] for row in result["rows"]]
    text = (workdir / "study.md").read_text()
    for expected in (
        "best interpolation, first 2 images",
        "digits 8x8x1",
        "not over trainings",
        "se_reduction 4, width 8 |",
        "| paper, IFNP |  | 15.4 |  |",
        "CNP, IFANP",
        "4 steps of 8 of 1,497 training images",
    ):
        assert expected in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| IFNP |")} - {6}) == 1


def test_figures_are_drawn(finished):
    from PIL import Image

    for name in "abcd":
        with Image.open(finished[0] / f"figure_{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert min(pixels.shape[:2]) > 200
        assert pixels.std() > 5


def test_a_killed_study_goes_on_where_it_was(tmp_path, digits, finished, monkeypatch):
    class KilledError(Exception):
        pass

    trained = []

    def run(config, directory, dataset):
        if len(trained) == 1:
            raise KilledError
        trained.append(config.model.name)
        return train_run(config, directory, dataset)

    train_run = loop.run
    monkeypatch.setattr(train, "run", run)
    with pytest.raises(KilledError):
        study.run(tiny_config(), tmp_path, digits)
    trained.clear()
    monkeypatch.setattr(
        train, "run", lambda config, *rest: trained.append(config.model.name) or train_run(config, *rest)
    )
    result = study.run(tiny_config(), tmp_path, digits)
    assert trained == list(MODELS[1:])
    for row, expected in zip(result["rows"], finished[1]["rows"], strict=True):
        assert row["psnr"] == expected["psnr"]


def test_another_configuration_in_the_same_folder_is_refused(digits, finished):
    with pytest.raises(UserError, match=r"train.num_steps: 4 -> 6"):
        study.run(tiny_config(**{"train.num_steps": 6}), finished[0], digits)


@pytest.mark.parametrize(("part", "name"), [("train", "training"), ("evaluation", "held-out")])
def test_finished_runs_of_other_images_are_refused(finished, digits, part, name):
    other = dataclasses.replace(digits, **{part: 255 - getattr(digits, part)})
    with pytest.raises(UserError, match=f"IFNP_seed0 was trained or evaluated on other {name} images"):
        study.run(tiny_config(), finished[0], other)


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation.npz"])
@pytest.mark.parametrize("content", [b"", b'{"cells": [', b"PK\x03\x04 cut off"])
def test_a_finished_run_with_damaged_tables_says_what_to_do(finished, digits, tmp_path, name, content):
    workdir = shutil.copytree(finished[0], tmp_path / "study")
    (workdir / "image_np.IFANP_seed0" / name).write_bytes(content)
    with pytest.raises(
        UserError, match=r"IFANP_seed0 cannot be read .*; remove its evaluation\.json"
    ) as caught:
        study.run(tiny_config(), workdir, digits)
    assert "\n" not in str(caught.value)


def test_a_wrong_model_ends_before_anything_is_trained(tmp_path, digits):
    config = tiny_config()
    config.study.models = ("image_np.IFNP", "point_np.Unknown")
    with pytest.raises(UserError, match=r"point_np\.Unknown"):
        study.run(config, tmp_path, digits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "module", [study_digits, study_mnist, study_mnist_cpu, study_celeba, study_celeba_cpu]
)
def test_parameter_counts_are_within_a_fifth_of_those_of_ifanp(module):
    import jax

    config = module.get_config()
    shape = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "celeb_a": (32, 32, 3)}[config.data.name]

    def count(name):
        one = study.config_of(config, name, 0)
        configuration.check(one)
        _, _, init = runs.make_model(one, shape)
        return parameters.count_parameters(jax.eval_shape(init, jax.random.key(0)).params)

    ifanp = count("image_np.IFANP")
    for name in ("point_np.CNP", "point_np.LNP", "point_np.NP", "point_np.ANP", "vae.VAE"):
        assert 0.8 * ifanp <= count(name) <= 1.2 * ifanp, name


def test_runs_of_a_study_share_all_but_model_and_seed():
    config = study_digits.get_config()
    first, second = study.config_of(config, "image_np.IFANP", 0), study.config_of(config, "point_np.CNP", 1)
    assert "study" not in first
    differing = {
        line.partition(":")[0].partition(".")[0] for line in configuration.differences(first, second)
    }
    assert differing == {"model", "seed"}
    assert second.model.likelihood == config.model.likelihood


def test_the_npf_protocol_sets_contexts_and_likelihood():
    config = study_digits.get_config()
    config.protocol = "npf"
    configuration.apply_protocol(config)
    configuration.check(config)
    assert config.mask.fraction == (0.0, 0.3) and config.model.likelihood == "per_pixel"
    assert evaluate.list_cells(config.evaluate) == [("uniform", 0.3)]
    counts = evaluate.contexts(0, "uniform", 0.3, (400, 8, 8)).sum(axis=(1, 2, 3))
    assert counts.min() == 0 and counts.max() == 19  # round(0.3 * 64)
    assert abs(counts.mean() - 9.5) < 1
    config.protocol = "other"
    with pytest.raises(UserError, match="protocol is 'other'"):
        configuration.apply_protocol(config)


@pytest.mark.parametrize(
    ("module", "image_size", "crop_box"),
    [(mnist_ifanp, 32, ()), (celeba_ifanp, 32, (0, 0, 218, 178)), (study_digits, 0, ())],
)
def test_the_npf_protocol_takes_the_notebooks_images(module, image_size, crop_box):
    config = module.get_config()
    config.protocol = "npf"
    configuration.apply_protocol(config)
    assert (config.data.image_size, config.data.crop_size, config.data.crop_box) == (image_size, 0, crop_box)


def test_the_papers_protocol_sets_random_contexts():
    config = digits_ifanp.get_config()
    config.protocol = "paper"
    config.objective.target = "unobserved"
    configuration.apply_protocol(config)
    assert (config.mask.kind, config.mask.fraction) == ("random", (0.3, 0.6))
    assert config.objective.target == "all"
    assert [cell for cell in evaluate.list_cells(config.evaluate) if cell[0] == "random"] == [
        ("random", 0.2),
        ("random", 0.4),
        ("random", 0.6),
    ]
