"""The files of a study, from rows that are made up."""

import csv
import json

import pytest

from configs import study_celeba
from ifanp_jax.study import tables

OPTIONAL = ("ssim", "kl", "log_prob", "log_prob_per_image", "crps", "coverage")
LABELS = ("random 20%", "random 60%", "top 50%")
CELLS = (("random", 0.2), ("random", 0.6), ("top", 0.5))


def make_row(model, mask, fraction, psnr, **others):
    row = {"model": model, "mask": mask, "fraction": fraction, "num_parameters": 12345, "num_images": 6}
    for name in ("psnr", "psnr_completed", "psnr_unobserved"):
        row |= {name: psnr, f"{name}_interval": [psnr - 1, psnr + 1]}
    row |= {"mse": 0.1, "ssim": 0.5, "kl": 0.25, "log_prob": 0.5, "log_prob_per_image": 32.0, "crps": 0.0625}
    row |= {"coverage": [level / 20 for level in range(1, 20)], "psnr_by_seed": [psnr]}
    return row | {"training_seconds": 90.0} | others


@pytest.fixture
def study():
    models = {"image_np.IFNP": 12.0, "deepfill.Other": 14.0}
    return {
        "data": "digits", "image_shape": [8, 8, 1], "num_training_images": 1497, "eval_split": "test",
        "protocol": "", "num_steps": dict.fromkeys(models, 4), "minutes": 0, "batch_size": 8,
         "learning_rate": 0.01, "ema_decay": 0.9,
        "seeds": [0], "mask": "random", "mask_fraction": [0.3, 0.6], "target": "all",
        "has_one_target": True, "likelihood": "fixed",
        "sigma": 0.1, "sigma_floor": 0.01, "num_samples": 3, "rounds": None, "changes": {},
        "models": {name: {"width": 8} for name in models},
        "rows": [make_row(name, *cell, psnr) for name, psnr in models.items() for cell in CELLS],
        "comparisons": [
            {"lower": "image_np.IFNP", "higher": "deepfill.Other", "mask": mask, "fraction": fraction,
             "metric": metric, "difference": 2.0, "interval": [1.5, 2.5]}
            for metric in ("psnr", "psnr_completed") for mask, fraction in CELLS
        ],
        "classical": [
            {"mask": mask, "fraction": fraction, "method": method, "psnr_completed": psnr, "num_images": 2}
            for mask, fraction in CELLS for method, psnr in (("nearest", 10.0), ("gaussian_process", 11.0))
        ],
        "published": [
            {"model": "image_np.IFNP", "mask": "random", "fraction": 0.6, "psnr": 15.4, "kl": 0.00001},
            {"model": "image_np.IFNP", "mask": "random", "fraction": 0.3, "psnr": 15.5, "kl": 0.1},
        ],
    }  # fmt: skip


def read_tables(study):
    """Title -> rows of cells, without the line under the head."""
    found = {}
    for line in tables.list_lines(study):
        if line.startswith("**"):
            title = line.strip("*")
        elif line.startswith("|") and "---" not in line:
            found.setdefault(title, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_files_hold_the_study(study, tmp_path):
    tables.write(study, tmp_path)
    assert json.loads((tmp_path / "study.json").read_text()) == study
    with (tmp_path / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], float(row["psnr"])) for row in rows] == [
        (row["model"], row["psnr"]) for row in study["rows"]
    ]
    assert rows[0]["psnr_interval_low"] == "11.0" and rows[0]["kl"] == "0.25"
    assert (tmp_path / "study.md").read_text().splitlines() == tables.list_lines(study)


def test_the_caption_says_what_was_trained_and_tested(study):
    caption = tables.caption(study)
    for expected in (
        "digits 8x8x1 for 4 steps of 8 of 1,497 training images",
        "random, 30% to 60% observed",
        "The likelihood is fixed, sigma 0.1.",
        "mean of 3 samples",
        "not over trainings",
    ):
        assert expected in caption


def test_every_table_has_a_row_per_model(study):
    found = read_tables(study)
    raw = found["PSNR of the raw prediction, dB (95 % interval over images)"]
    assert raw[:3] == [
        ["model", *LABELS],
        ["IFNP", *3 * ["12.00 (11.00-13.00)"]],
        ["Other", *3 * ["14.00 (13.00-15.00)"]],
    ]
    completed = found["PSNR of the completed image, observed pixels kept, dB"]
    assert completed[-1] == ["best interpolation, first 2 images", *3 * ["11.00 gaussian process"]]
    assert found["Models"][1] == ["IFNP", "12,345", "4", "1.5", "12.00", "width 8"]
    differences = found["Paired differences of the raw PSNR, dB, image by image (95 % interval)"]
    assert differences[1] == ["IFNP", "Other", *3 * ["+2.00 (+1.50 to +2.50)"]]
    shares = found["Share of unobserved values inside the central 50% / 80% / 95% intervals"]
    assert shares[1] == ["IFNP", *3 * ["50%/80%/95%"]]


def test_what_the_paper_prints_stands_beside_ours(study):
    found = read_tables(study)
    kl = next(rows for title, rows in found.items() if title.startswith("KL("))
    assert kl[-1] == ["paper, IFNP", "", "0.000010", ""]
    assert found["PSNR of the raw prediction, dB (95 % interval over images)"][-1] == [
        "paper, IFNP",
        "",
        "15.4",
        "",
    ]
    assert "does not state its protocol" in tables.list_lines(study)[-1]
    assert "clipped mean of 3 samples" in tables.list_lines(study)[-1]
    assert "protocol" not in tables.list_lines(study | {"published": []})[-1]


def test_the_papers_table_is_whole():
    published = study_celeba.get_config().study.published
    assert [name.partition(".")[2] for name, _ in published] == [
        "IFNP", "IFANP_LPA", "IFANP_SENet", "IFANP_GCA", "IFANP"
    ]  # fmt: skip
    for _, cells in published:
        assert [fraction for fraction, _, _ in cells] == [0.2, 0.4, 0.6]
    assert published[-1][1][-1] == (0.6, 20.138, 0.000010)


def test_a_model_without_latent_variable_and_scale_has_empty_cells(study, tmp_path):
    for row in study["rows"][3:]:
        for name in OPTIONAL:
            del row[name]
    found = read_tables(study)
    for title, rows in found.items():
        if title.startswith(("KL(", "log-likelihood", "CRPS", "Share")):
            assert rows[2] == ["Other", "", "", ""]
    tables.write(study, tmp_path)
    with (tmp_path / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["kl"] for row in rows] == 3 * ["0.25"] + 3 * [""]


def test_samples_by_rounds_have_tables_where_a_model_has_them(study, tmp_path):
    study["rounds"] = {"rounds": 16, "rounds_images": 64, "num_samples": 3, "seed": 0}
    for row in study["rows"][:3]:
        row |= {"rounds_psnr_best": 22.5, "rounds_gradient_ratio": 1.05}
    found = read_tables(study)
    best = found["best of the samples by rounds: PSNR of the completed image, dB"]
    assert best[1:] == [["IFNP", *3 * ["22.50"]], ["Other", *3 * [""]]]
    assert found["gradient energy of a sample by rounds, the truth's being 1"][1][1] == "1.05"
    assert "3 were drawn by 16 rounds for each of the first 64 images" in tables.caption(study)
    tables.write(study, tmp_path)
    with (tmp_path / "study.csv").open() as file:
        assert [row["rounds_psnr_best"] for row in csv.DictReader(file)] == 3 * ["22.5"] + 3 * [""]


def test_what_no_model_answers_has_no_table(study):
    for row in study["rows"]:
        for name in OPTIONAL:
            del row[name]
    study |= {"published": [], "classical": [], "likelihood": None}
    titles = list(read_tables(study))
    assert len(titles) == 6  # three PSNRs, two differences, the models
    assert "likelihood is" not in tables.caption(study).replace("log-likelihood is", "")


def test_the_terminal_shows_the_same_tables_within_80_characters(study):
    study["models"]["image_np.IFNP"] = {f"a_field_{index}": index for index in range(40)}
    lines = tables.terminal_lines(study)
    assert max(map(len, lines)) <= 80
    text = " ".join(lines)
    for title, rows in read_tables(study).items():
        assert " ".join(title.split()) in text
        words = {word for row in rows for cell in row for word in cell.split()}
        assert words <= set(text.split()), title


def test_a_name_with_a_change_is_shown_and_explained(study):
    name = "image_np.IFNP-no_gca"
    study["rows"] += [make_row(name, *cell, 13.0) for cell in CELLS]
    study["models"][name] = {"width": 8}
    study["num_steps"][name] = 5000
    study["changes"] = {"no_gca": ["mask.kind=varied", "train.num_steps=5000"]}
    study["has_one_target"] = False
    found = read_tables(study)
    assert found["PSNR of the completed image, observed pixels kept, dB"][3][0] == "IFNP, no gca"
    assert found["Models"][3] == ["IFNP, no gca", "12,345", "5,000", "1.5", "13.00", "width 8"]
    caption = tables.caption(study)
    assert "for the steps that the last table gives, each of 8 of 1,497" in caption
    assert '"no gca" behind a name changes this: mask.kind=varied, train.num_steps=5000.' in caption
    assert "among trainings of one target" in caption
    caption = tables.caption(study | {"minutes": 0.5})
    assert "for as many steps as fit in 0.5 minutes of one core, each of 8 of 1,497" in caption
