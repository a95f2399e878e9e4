"""Numbers as text."""

import csv

import pytest

from ifanp_jax.evaluation import report, tables
from ifanp_jax.evaluation.tables import Table
from ifanp_jax.metrics import calibration

CELL = {
    "mask": "random", "fraction": 0.2, "num_images": 1000, "psnr": 9.254, "psnr_interval": [9.01, 9.5],
    "psnr_completed": 10.236, "psnr_completed_interval": [9.991, 10.499], "psnr_unobserved": 9.25,
    "mse": 0.12, "ssim": 0.4567, "kl": 21.23, "log_prob": -4.2921, "crps": 0.21291,
    "coverage": list(calibration.LEVELS),
}  # fmt: skip
EVALUATION = {
    "model": "image_np.IFANP_SENet", "data": "celeb_a", "image_shape": [32, 32, 3], "step": 20,
    "num_parameters": 7321, "protocol": "", "likelihood": "fixed", "sigma": 0.1, "sigma_floor": 0.01,
    "num_samples": 8, "target": "all", "cells": [CELL, CELL | {"mask": "bottom", "fraction": 0.5}],
    "blended": [], "missing": [],
    "classical": [
        {"mask": mask, "fraction": fraction, "method": "gaussian_process", "psnr_completed": 22.5,
         "num_images": 100}
        for mask, fraction in (("random", 0.2), ("bottom", 0.5))
    ],
}  # fmt: skip
OPTIONAL = ("ssim", "kl", "log_prob", "crps", "coverage")
ROW = [
    "random 20%", "9.25 (9.01-9.50)", "10.24 (9.99-10.50)", "9.25", "22.50 gaussian process", "0.1200",
    "0.457", "21.2", "-4.292", "0.2129", "50%/80%/95%",
]  # fmt: skip


def page(evaluation):
    return tables.markdown_page(report.caption(evaluation), report.list_tables(evaluation))


def test_a_row_holds_every_number():
    assert report.list_tables(EVALUATION)[0].rows[0] == ROW


def test_what_a_model_does_not_answer_has_no_column():
    cell = {name: value for name, value in CELL.items() if name not in OPTIONAL}
    evaluation = EVALUATION | {"cells": [cell], "classical": [], "likelihood": None}
    (table,) = report.list_tables(evaluation)
    assert table.rows == [[*ROW[:4], "0.1200"]]
    text = page(evaluation)
    assert "PSNR is in dB" in text
    for absent in ("SSIM", "KL", "Log p", "CRPS", "None", "likelihood", "classical"):
        assert absent not in text


def test_where_one_row_lacks_a_metric_its_cell_is_empty():
    fewer = {name: value for name, value in CELL.items() if name != "kl"}
    table = tables.tabulate([("a", CELL), ("b", fewer)], tables.GENERAL, head="model")
    column = table.head.index("KL")
    assert [row[column] for row in table.rows] == ["21.2", ""]


def with_rounds():
    rounds = {column.metric: 0.5 for column in tables.ROUNDS}
    how = {"rounds": 16, "rounds_images": 64, "num_samples": 8, "seed": 0}
    return EVALUATION | {"cells": [cell | rounds for cell in EVALUATION["cells"]], "rounds": how}


def test_the_terminal_shows_every_column_within_80_characters():
    evaluation = with_rounds()
    text = tables.terminal_page(report.caption(evaluation), report.list_tables(evaluation))
    assert max(map(len, text.splitlines())) <= 80
    titles = [column.title for column in tables.ROUNDS]
    assert all(name in text for name in (*titles, *ROW, "gaussian_process"))
    assert "Log p is in nats per value" in " ".join(text.splitlines())


def test_a_wide_table_goes_on_below_and_a_long_cell_in_the_next_line():
    lines = tables.plain_table(["a", "bb", "c"], [["x", "1", "2"]], width=5)
    assert lines == ["a bb", "x  1", "", "a c", "x 2"]
    assert tables.plain_table(["a", "b"], [["x", "1 2 345"]], width=6) == ["a b", "x 1 2", "  345"]


def test_a_table_is_markdown_and_csv(tmp_path):
    table = Table(["a", "b"], [["1", ""]], title="T", note="N.")
    assert table.markdown() == ["**T**", "", "| a | b |", "|---|---|", "| 1 |  |", "", "N."]
    Table(["a", "b"], [[1.5, None]]).write_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1.5", ""]]


def test_every_interpolation_has_a_column():
    assert page(EVALUATION).splitlines()[-2:] == ["| random 20% | 22.50 |", "| bottom 50% | 22.50 |"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ({"mask": "random", "fraction": 0.4}, "random 40%"),
        ({"mask": "uniform", "fraction": 0.3}, "random 0-30%"),
        ({"mask": "top", "fraction": 0.5}, "top 50%"),
    ],
)
def test_labels(cell, expected):
    assert tables.label(cell) == expected


def test_the_caption_says_what_was_measured():
    caption = report.caption(EVALUATION | {"protocol": "npf"})
    for fact in (
        "IFANP_SENet",
        "celeb_a 32x32x3",
        "step 20",
        "7,321",
        "1000 held-out",
        "8 samples",
        "npf",
        "all",
    ):
        assert fact in caption
    assert "protocol" not in report.caption(EVALUATION)
