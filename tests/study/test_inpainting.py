"""A study over holes: its numbers and tables from values that are made up, and a tiny whole one."""

import csv
import json

import numpy as np
import pytest

from configs import study_inpainting, study_inpainting_cpu
from ifanp_jax import metrics
from ifanp_jax.classical import interpolation
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import baselines, scores
from ifanp_jax.evaluation.contexts import Context, load_contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.metrics import inpainting
from ifanp_jax.study import run, summary, tables
from tests import tiny
from tests.inpainters import trainings as inpainters

DATASET = tiny.noise(num_evaluation=4, shape=(16, 16, 3))
MODELS = ("shift_net.ShiftNet", "se_shift_net.SEShiftNet", "glcic.GLCIC-no_critics")


def box_contexts():
    """Centre squares, and rectangles of two sizes."""
    centre, boxes = np.ones((2, 4, 16, 16, 1), bool)
    centre[:, 4:12, 4:12] = False
    boxes[:2, 2:12, 2:12] = False
    boxes[2:, 8:12, 8:12] = False
    return {"centre": Context("centre", 0.75, centre), "box": Context("box", float(boxes.mean()), boxes)}


def write_runs(workdir, *, seed=0):
    """Finished runs with the values of nobody."""
    generator, values = np.random.default_rng(seed), {}
    for name in MODELS:
        folder = workdir / f"{name}_seed{seed}"
        folder.mkdir(parents=True)
        found = {
            f"{kind} {metric}": generator.uniform(10, 20, 4)
            for kind in ("centre", "box")
            for metric in (*scores.PSNR_NAMES, *inpainting.NAMES)
        }
        found["centre hole_ssim"][1] = np.nan
        np.savez(folder / "evaluation.npz", **found)
        (folder / "evaluation.json").write_text(json.dumps({"num_parameters": 1234}))
        rows = [{"step": step, "train/seconds": 60.0 * step} for step in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        values[name] = found
    return values


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("made_up")
    values = write_runs(workdir)
    config = study_inpainting_cpu.get_config()
    config.study.models = MODELS
    config.evaluate.classical_images = 3
    return workdir, values, summary.summarise(config, workdir, DATASET, box_contexts())


def test_rows_are_means_over_the_images_where_there_is_a_value(made_up):
    _, values, study = made_up
    assert [(row["method"], row["mask"]) for row in study["rows"]] == [
        (name, kind) for name in MODELS for kind in ("centre", "box")
    ]
    row = study["rows"][0]
    expected = values[MODELS[0]]["centre hole_psnr"]
    assert row["hole_psnr"] == pytest.approx(expected.mean()) and row["num_images"] == 4
    assert row["hole_psnr_interval"] == list(metrics.bootstrap_interval(expected, seed=0))
    assert row["hole_ssim"] == pytest.approx(np.nanmean(values[MODELS[0]]["centre hole_ssim"]))
    assert row["sha256"] == box_contexts()["centre"].sha256 == study["contexts"]["centre"]
    assert [one["bin"] for one in study["rows"][1]["bins"]] == ["0-10 %", "30-40 %"] and row["bins"] == []


def test_differences_are_paired_with_models_and_with_classical_methods(made_up):
    _, values, study = made_up
    by_pair = {
        (one["lower"], one["higher"], one["mask"]): one
        for one in study["comparisons"]
        if one["metric"] == "hole_psnr"
    }
    name = "box hole_psnr"
    one = by_pair["shift_net.ShiftNet", "se_shift_net.SEShiftNet", "box"]
    expected = values["se_shift_net.SEShiftNet"][name] - values["shift_net.ShiftNet"][name]
    assert one["difference"] == pytest.approx(expected.mean()) and one["num_images"] == 4
    assert one["interval"] == list(metrics.bootstrap_interval(expected, seed=0))
    one = by_pair["mean", "shift_net.ShiftNet", "box"]
    images, context = DATASET.evaluation[:3] / np.float32(255), box_contexts()["box"].first(3)
    filled = interpolation.complete_images(images, context.masks, methods=["mean"])["mean"]
    theirs = baselines.measure(filled, images, context)["hole_psnr"]
    expected = values["shift_net.ShiftNet"][name][:3] - theirs
    assert one["difference"] == pytest.approx(expected.mean(), rel=1e-5) and one["num_images"] == 3
    assert ("patch_match", "shift_net.ShiftNet", "box") in by_pair
    assert not any("context_encoder" in lower for lower, _, _ in by_pair)  # it was not trained here


def test_files_hold_the_study(made_up, tmp_path):
    _, _, study = made_up
    tables.write(study, tmp_path)
    assert json.loads((tmp_path / "study.json").read_text()) == json.loads(json.dumps(study))
    with (tmp_path / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(study["rows"]) + len(study["classical"])
    assert float(rows[0]["hole_psnr"]) == study["rows"][0]["hole_psnr"]
    assert float(rows[0]["hole_psnr_interval_low"]) == study["rows"][0]["hole_psnr_interval"][0]
    text = (tmp_path / "study.md").read_text()
    for fact in (
        study["contexts"]["centre"],
        "| GLCIC, no critics | 1,234 |",
        "centre 75%, SEShiftNet | 4 |",
        "centre 75%, patch match | 3 |",
        "SEShiftNet, holes of 30-40 % | 2 |",
        "Published: Yu et al., 2018",
        inpainting.SSIM_CONVENTION,
        "moving average 0.995",
        "| hole_psnr | ShiftNet | SEShiftNet | 4 |",
    ):
        assert fact in text, fact
    page = tables.terminal_page(study)
    assert max(map(len, page.splitlines())) <= 80 and "Published: Yu et al., 2018" in page


def make_tiny_study():
    """Three ways of training, four runs, two steps each."""
    config = study_inpainting_cpu.get_config()
    names = ("context_encoder.ContextEncoder", "deepfill.DeepFill64", "image_np.IFANP")
    config.study.models = (*names, "context_encoder.ContextEncoder-no_critics")
    for name in names:
        family, variant = name.split(".")
        small = inpainters.MODELS.get(name) or tiny.make_model_config(name)
        config.study.fields[family][variant].update(
            {field: value for field, value in small.items() if field in config.study.fields[family][variant]}
        )
        config.study.changes[family] = {"train": {"num_steps": 2}}
    fields = {
        "train.batch_size": 4,
        "train.log_every": 1,
        "train.validate_every": 2,
        "train.checkpoint_every": 2,
        "evaluate.num_images": 4,
        "evaluate.classical_images": 2,
        "evaluate.figure_images": 2,
        "evaluate.batch_size": 4,
    }
    config.update_from_flattened_dict(fields)
    return config


@pytest.mark.slow
def test_a_whole_study_is_trained_evaluated_and_drawn(tmp_path):
    from PIL import Image

    config = make_tiny_study()
    study = run.run(config, tmp_path, DATASET)
    assert list(study["contexts"]) == ["centre", "box", "strokes"]
    for name in config.study.models:
        folder = tmp_path / f"{name}_seed0"
        kept = load_contexts(Options.of(config), (4, 16, 16), folder=folder)
        assert {kind: context.sha256 for kind, context in kept.items()} == study["contexts"]
        evaluation = json.loads((folder / "evaluation.json").read_text())
        found = next(row for row in study["rows"] if (row["method"], row["mask"]) == (name, "box"))
        assert found["hole_psnr"] == pytest.approx(evaluation["cells"][1]["hole_psnr"])
        assert study["models"][name]["num_steps"] == 2
    critics = [facts["adversarial"] for facts in study["models"].values()]
    assert critics == ["dcgan", "wgan_gp", None, "none"]
    for name in ("completions", "attention", "critics"):
        with Image.open(tmp_path / f"figure_{name}.png") as picture:
            assert min(picture.size) > 200
    again = run.run(config, tmp_path, DATASET)  # nothing is trained
    assert again == study
    path = tmp_path / "image_np.IFANP_seed0/evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["cells"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(evaluation))
    with pytest.raises(UserError, match="IFANP_seed0 was tested in other contexts"):
        run.run(config, tmp_path, DATASET)
    path.unlink()
    np.savez(path.with_name("contexts.npz"), strokes=np.zeros((4, 16, 16)))
    with pytest.raises(UserError, match="IFANP_seed0 was tested in other contexts"):
        run.run(config, tmp_path, DATASET)


def test_the_accelerators_study_has_the_ablations():
    names = study_inpainting.get_config().study.models
    assert {f"deepfill.DeepFill-{change}" for change in study_inpainting.CHANGES} <= set(names)
