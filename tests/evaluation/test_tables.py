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
    assert "PSNR in dB" in caption
    assert not [word for word in ("KL", "Log p", "CRPS", "likelihood", "None") if word in caption]


def test_the_terminal_shows_every_column_within_80_characters(capsys):
    tables.print_table(EVALUATION)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert all(name in text for name in tables.COLUMNS)
    assert all(cell in text for cell in ROW)
    assert "Log p in nats per value" in " ".join(lines)


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
