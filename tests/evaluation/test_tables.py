"""Numbers as text."""

import pytest

from ifanp_jax.evaluation import tables
from ifanp_jax.metrics import calibration

CELL = {
    "mask": "random", "fraction": 0.2, "num_images": 1000, "psnr": 9.254, "psnr_completed": 10.236,
    "psnr_completed_interval": [9.991, 10.499], "psnr_unobserved": 9.25, "mse": 0.12, "ssim": 0.4567,
    "kl": 21.23, "log_prob": -4.2921, "crps": 0.21291, "coverage": list(calibration.LEVELS),
}  # fmt: skip
EVALUATION = {
    "model": "image_np.IFANP_SENet", "data": "celeb_a", "image_shape": [32, 32, 3], "step": 20,
    "num_parameters": 7321, "protocol": "", "likelihood": "fixed", "sigma": 0.1, "sigma_floor": 0.01,
    "num_samples": 8, "target": "all", "cells": [CELL, CELL | {"mask": "bottom", "fraction": 0.5}],
    "classical": [
        {"mask": mask, "fraction": fraction, "method": "gaussian_process", "psnr_completed": 22.5,
         "num_images": 100}
        for mask, fraction in (("random", 0.2), ("bottom", 0.5))
    ],
}  # fmt: skip
OPTIONAL = ("ssim", "kl", "log_prob", "crps", "coverage")
ROW = [
    "random 20%", "9.25", "10.24", "9.99-10.50", "9.25", "22.50 gaussian process", "0.1200", "0.457", "21.2",
    "-4.292", "0.2129", "50%/80%/95%",
]  # fmt: skip


def test_a_row_holds_every_number():
    assert tables.table_rows(EVALUATION)[0] == ROW


def test_what_a_model_does_not_answer_is_empty():
    cell = {name: value for name, value in CELL.items() if name not in OPTIONAL}
    evaluation = EVALUATION | {"cells": [cell], "classical": [], "likelihood": None}
    row = tables.table_rows(evaluation)[0]
    assert row == [*ROW[:5], "", "0.1200", "", "", "", "", ""]
    caption = tables.caption(evaluation)
    assert "PSNR is in dB" in caption
    for reason in ("SSIM is empty: it", "KL is empty: the", "Log p, CRPS and the last column are empty: the"):
        assert reason in caption
    assert "None" not in caption and "likelihood" not in caption


def with_rounds():
    rounds = {name: 0.5 for _, name, _ in tables.ROUNDS_COLUMNS}
    how = {"rounds": 16, "rounds_images": 64, "num_samples": 8, "seed": 0}
    return EVALUATION | {"cells": [cell | rounds for cell in EVALUATION["cells"]], "rounds": how}


def test_the_terminal_shows_every_column_within_80_characters():
    evaluation = with_rounds()
    text = "\n".join(tables.terminal_lines(evaluation))
    assert max(map(len, text.splitlines())) <= 80
    titles = [title for title, _, _ in tables.ROUNDS_COLUMNS]
    assert all(name in text for name in (*tables.COLUMNS, *titles, *ROW, "gaussian_process"))
    assert "Log p is in nats per value" in " ".join(text.splitlines())


def test_a_metric_without_a_column_is_named():
    assert tables.rest(with_rounds()) == ""
    evaluation = EVALUATION | {"cells": [CELL | {"log_prob_per_image": 1.0, "news": 2.0}]}
    assert tables.rest(evaluation) == "More metrics stand in evaluation.json: log_prob_per_image, news."
    for lines in (tables.terminal_lines(evaluation), tables.list_lines(evaluation)):
        assert lines[-1] == tables.rest(evaluation)


def test_a_wide_table_goes_on_below_and_a_long_cell_in_the_next_line():
    lines = tables.plain_table(["a", "bb", "c"], [["x", "1", "2"]], width=5)
    assert lines == ["a bb", "x  1", "", "a c", "x 2"]
    assert tables.plain_table(["a", "b"], [["x", "1 2 345"]], width=6) == ["a b", "x 1 2", "  345"]


def test_markdown_has_a_line_per_row_and_every_interpolation():
    lines = tables.list_lines(EVALUATION)
    assert "| " + " | ".join(ROW) + " |" in lines
    assert lines[-2:] == ["| random 20% | 22.50 |", "| bottom 50% | 22.50 |"]
    assert tables.markdown_table(["a", "b"], [["1", ""]]) == ["| a | b |", "|---|---|", "| 1 |  |"]


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


def test_a_protocol_is_named():
    assert "held-out images, protocol npf." in tables.caption(EVALUATION | {"protocol": "npf"})
