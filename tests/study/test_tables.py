"""The files of a study, from rows that are made up."""

import csv
import json

import pytest

from configs import study_celeba
from ifanp_jax.evaluation.tables import markdown_page
from ifanp_jax.study import tables

OPTIONAL = ("ssim", "kl", "log_prob", "log_prob_per_image", "crps", "coverage")
LABELS = ("random 20%", "random 60%", "top 50%")
CELLS = (("random", 0.2), ("random", 0.6), ("top", 0.5))


def make_row(method, mask, fraction, psnr, **others):
    row = {"method": method, "mask": mask, "fraction": fraction, "sha256": "0" * 64, "num_images": 6}
    for name in ("psnr", "psnr_completed", "psnr_unobserved"):
        row |= {name: psnr, f"{name}_interval": [psnr - 1, psnr + 1]}
    row |= {"mse": 0.1, "ssim": 0.5, "kl": 0.25, "log_prob": 0.5, "log_prob_per_image": 32.0, "crps": 0.0625}
    return row | {"coverage": [level / 20 for level in range(1, 20)]} | others


def make_facts(psnr):
    return {
        "num_parameters": 12345, "num_steps": 4, "training_seconds": 90.0, "psnr_by_seed": [psnr],
        "adversarial": None, "num_critic_updates": None, "fields": {"width": 8},
    }  # fmt: skip


@pytest.fixture
def study():
    models = {"image_np.IFNP": 12.0, "deepfill.Other": 14.0}
    return {
        "data": "digits", "image_shape": [8, 8, 1], "num_training_images": 1497, "eval_split": "test",
        "protocol": "", "minutes": 0, "batch_size": 8, "learning_rate": 0.01, "ema_decay": 0.9,
        "seeds": [0], "mask": "random", "mask_fraction": [0.3, 0.6], "hole_shares": {"box": 1.0},
        "target": "all", "has_one_target": True, "likelihood": "fixed",
        "sigma": 0.1, "sigma_floor": 0.01, "num_samples": 3, "rounds": None, "changes": {},
        "models": {name: make_facts(psnr) for name, psnr in models.items()},
        "rows": [make_row(name, *cell, psnr) for name, psnr in models.items() for cell in CELLS],
        "comparisons": [
            {"lower": "image_np.IFNP", "higher": "deepfill.Other", "mask": mask, "fraction": fraction,
             "metric": metric, "difference": 2.0, "interval": [1.5, 2.5], "num_images": 6}
            for metric in ("psnr", "psnr_completed") for mask, fraction in CELLS
        ],
        "classical": [
            {"mask": mask, "fraction": fraction, "method": method, "psnr_completed": psnr, "num_images": 2}
            for mask, fraction in CELLS for method, psnr in (("nearest", 10.0), ("gaussian_process", 11.0))
        ],
        "missing": [],
        "published": [
            {"method": "image_np.IFNP", "mask": "random", "fraction": 0.6, "psnr": 15.4, "kl": 0.00001},
            {"method": "image_np.IFNP", "mask": "random", "fraction": 0.3, "psnr": 15.5, "kl": 0.1},
        ],
        "published_inpainters": [],
    }  # fmt: skip


def read_tables(study):
    """Title -> rows of texts by the head of their column."""
    return {
        table.title: [dict(zip(table.head, row, strict=True)) for row in table.rows]
        for table in tables.list_tables(study)
    }


def test_files_hold_the_study(study, tmp_path):
    tables.write(study, tmp_path)
    assert json.loads((tmp_path / "study.json").read_text()) == study
    with (tmp_path / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = study["rows"] + study["classical"]
    assert [(row["method"], float(row["psnr_completed"])) for row in rows] == [
        (row["method"], row["psnr_completed"]) for row in expected
    ]
    assert rows[0]["psnr_interval_low"] == "11.0" and rows[0]["kl"] == "0.25" and rows[-1]["kl"] == ""
    assert (tmp_path / "study.md").read_text() == markdown_page(
        tables.caption(study), tables.list_tables(study)
    )


def test_the_caption_says_what_was_trained_and_tested(study):
    caption = tables.caption(study)
    for fact in (
        "digits 8x8x1", "4 steps", "of 8 of 1,497", "random, 30% to 60%", "fixed, sigma 0.1", "3 samples",
        "not over trainings", "6 held-out",
    ):  # fmt: skip
        assert fact in caption
    assert "holes (box 1)" in tables.caption(study | {"mask": "inpainting"})


def test_every_context_has_a_row_per_model_and_the_best_classical_method(study):
    found = read_tables(study)
    for name in LABELS:
        rows = found[f"Observed: {name}"]
        assert [row["method"] for row in rows[:2]] == ["IFNP", "Other"]
        assert [row["PSNR (95 %)"] for row in rows[:2]] == ["12.00 (11.00-13.00)", "14.00 (13.00-15.00)"]
        assert [row["in 50/80/95 %"] for row in rows[:2]] == 2 * ["50%/80%/95%"]
        assert (rows[-1]["method"], rows[-1]["completed (95 %)"]) == (
            "gaussian process, first 2 images",
            "11.00",
        )
    assert found["Models"][0] == {
        "model": "IFNP", "parameters": "12,345", "steps": "4", "training, minutes": "1.5",
        "raw PSNR by seed, first context": "12.00", "fields": "width 8",
    }  # fmt: skip
    differences = next(rows for title, rows in found.items() if title.startswith("Paired"))
    assert [row["metric"] for row in differences] == ["psnr", "psnr_completed"]
    assert differences[0] == {
        "metric": "psnr", "from": "IFNP", "to": "Other", "images": "6",
        **dict.fromkeys(LABELS, "+2.00 (+1.50 to +2.50)"),
    }  # fmt: skip


def test_what_the_paper_prints_stands_beside_ours(study):
    row = next(row for row in read_tables(study)["Observed: random 60%"] if row["method"] == "paper, IFNP")
    assert (row["PSNR (95 %)"], row["KL"], row["log p"]) == ("15.4", "0.000010", "")
    notes = {table.title: table.note for table in tables.list_tables(study)}
    assert "clipped mean of 3 samples" in notes["Observed: random 60%"]
    assert "paper" not in notes["Observed: random 20%"]


def test_the_papers_table_is_whole():
    published = study_celeba.get_config().study.published
    assert [name.partition(".")[2] for name, _ in published] == [
        "IFNP", "IFANP_LPA", "IFANP_SENet", "IFANP_GCA", "IFANP"
    ]  # fmt: skip
    for _, cells in published:
        assert [fraction for fraction, _, _ in cells] == [0.2, 0.4, 0.6]
    assert published[-1][1][-1] == (0.6, 20.138, 0.000010)


def test_a_model_without_latent_variable_and_scale_has_empty_cells(study):
    for row in study["rows"][3:]:
        for name in OPTIONAL:
            del row[name]
    rows = read_tables(study)["Observed: random 20%"]
    for name in ("SSIM", "KL", "log p", "CRPS", "in 50/80/95 %"):
        assert rows[0][name] and not rows[1][name]


def test_samples_by_rounds_have_a_table_where_a_model_has_them(study):
    assert "Samples by rounds" not in read_tables(study)
    study["rounds"] = {"rounds": 16, "rounds_images": 64, "num_samples": 3, "seed": 0}
    for row in study["rows"][:3]:
        row |= {"rounds_psnr_one": 20.0, "rounds_psnr_best": 22.5, "rounds_gradient_ratio": 1.05}
    rows = read_tables(study)["Samples by rounds"]
    assert [row["context"] for row in rows] == [f"{name}, IFNP" for name in LABELS]
    assert (rows[0]["best"], rows[0]["gradient energy"]) == ("22.50", "1.05")
    note = next(table.note for table in tables.list_tables(study) if table.title == "Samples by rounds")
    for fact in ("3 samples", "16 rounds", "first 64 images", "seed 0"):
        assert fact in note


def test_what_no_model_answers_has_no_column(study):
    for row in study["rows"]:
        for name in OPTIONAL:
            del row[name]
    study |= {"published": [], "classical": [], "likelihood": None}
    rows = read_tables(study)["Observed: random 20%"]
    assert set(rows[0]) == {"method", "PSNR (95 %)", "completed (95 %)", "unobserved", "MSE"}
    assert "likelihood is" not in tables.caption(study)


def test_the_terminal_shows_the_same_tables_within_80_characters(study):
    study["models"]["image_np.IFNP"]["fields"] = {f"a_field_{index}": index for index in range(40)}
    page = tables.terminal_page(study)
    assert max(map(len, page.splitlines())) <= 80
    for table in tables.list_tables(study):
        assert " ".join(table.title.split()) in " ".join(page.split())
        words = {word for row in table.rows for cell in row for word in cell.split()}
        assert words <= set(page.split()), table.title


def test_a_name_with_a_change_is_shown_and_explained(study):
    name = "image_np.IFNP-no_gca"
    study["rows"] += [make_row(name, *cell, 13.0) for cell in CELLS]
    study["models"][name] = make_facts(13.0) | {"num_steps": 5000}
    study["changes"] = {"no_gca": ["mask.kind=varied", "train.num_steps=5000"]}
    study["has_one_target"] = False
    found = read_tables(study)
    assert found["Observed: random 20%"][2]["method"] == "IFNP, no gca"
    assert (found["Models"][2]["model"], found["Models"][2]["steps"]) == ("IFNP, no gca", "5,000")
    caption = tables.caption(study)
    assert "4 steps" not in caption and "trainings of one target" in caption
    assert '"no gca"' in caption and "mask.kind=varied, train.num_steps=5000" in caption
    assert "0.5 minutes of one core" in tables.caption(study | {"minutes": 0.5})


def test_critics_are_named_where_a_model_has_them(study):
    study["models"]["deepfill.Other"] |= {"adversarial": "wgan_gp", "num_critic_updates": 5}
    rows = read_tables(study)["Models"]
    assert [row["critics"] for row in rows] == ["", "wgan_gp, 5 updates to one"]
