"""Rows: what is measured in a context, and its means."""

import numpy as np
import pytest

from ifanp_jax import metrics
from ifanp_jax.evaluation import scores
from ifanp_jax.evaluation.contexts import Context

ROWS = [
    {"method": "nearest", "mask": "random", "fraction": 0.2, "psnr_completed": 10.0},
    {"method": "cubic", "mask": "random", "fraction": 0.2, "psnr_completed": 12.0},
    {"method": "nearest", "mask": "top", "fraction": 0.5, "psnr_completed": 14.0},
]


def test_the_best_method_is_that_of_the_same_contexts():
    assert scores.best_classical(ROWS, {"mask": "random", "fraction": 0.1 + 0.1}) is ROWS[1]
    assert scores.best_classical(ROWS, {"mask": "top", "fraction": 0.5}) is ROWS[2]
    assert scores.best_classical(ROWS, {"mask": "left", "fraction": 0.5}) is None
    assert scores.rows_of_context(ROWS, {"mask": "random", "fraction": 0.2}) == ROWS[:2]


@pytest.mark.parametrize("rows", [[], ROWS[2:]])
def test_where_nothing_was_interpolated_nothing_is_best(rows):
    assert scores.best_classical(rows, {"mask": "random", "fraction": 0.2}) is None


def test_means_are_over_the_images_where_there_is_a_hole_to_measure():
    values = {"psnr": np.array([1.0, 2.0, 6.0]), "hole_ssim": np.array([0.5, np.nan, 0.7])}
    values |= {"image_ssim": np.full(3, np.nan), "kl_per_dim": np.arange(6.0).reshape(3, 2)}
    context = Context("centre", 0.75, np.ones((3, 4, 4, 1), bool))
    row = scores.make_row(context, values, seed=3, method="one")
    assert (row["method"], row["mask"], row["fraction"], row["num_images"]) == ("one", "centre", 0.75, 3)
    assert row["sha256"] == context.sha256 and "image_ssim" not in row
    assert row["psnr"] == 3 and row["hole_ssim"] == pytest.approx(0.6) and row["kl_per_dim"] == [2, 3]
    assert row["hole_ssim_interval"] == list(metrics.bootstrap_interval(np.array([0.5, 0.7]), seed=3))
    assert row["psnr_interval"] == list(metrics.bootstrap_interval(values["psnr"], seed=3))
    assert np.isnan(scores.summarise({"psnr": np.array([1.0]), "kl": np.array([np.nan])}, seed=0)["kl"])


def test_bins_of_the_area_hold_every_image_once():
    mask = np.ones((4, 10, 10, 1), bool)
    for index, count in enumerate((5, 5, 25, 100)):
        mask.reshape(4, -1)[index, :count] = False
    values = {"hole_psnr": np.array([10.0, 20.0, 30.0, np.nan]), "psnr": np.arange(4.0)}
    rows = scores.by_area(Context("box", 0.5, mask), values, seed=0)
    assert [(row["bin"], row["num_images"]) for row in rows] == [
        ("0-10 %", 2), ("20-30 %", 1), ("above 60 %", 1)
    ]  # fmt: skip
    assert [row.get("hole_psnr") for row in rows] == [15.0, 30.0, None]
    values = {"hole_psnr": values["hole_psnr"][:2]}
    assert scores.by_area(Context("box", 0.5, mask[:2]), values, seed=0) == []


def test_values_are_found_by_context_and_method():
    contexts = [Context(kind, 0.5, np.ones((2, 4, 4, 1), bool)) for kind in ("random", "top", "strokes")]
    archive = {}
    for number, context in enumerate(contexts):
        archive |= scores.name_values(context, {"psnr": number})
        archive |= scores.name_values(context, {"psnr": 10 + number}, method="mean")
    for number, context in enumerate(contexts):
        assert scores.select_values(context, archive) == {"psnr": number}
        assert scores.select_values(context, archive, method="mean") == {"psnr": 10 + number}
        assert scores.select_values(context, archive, method="telea") == {}
        assert archive[scores.key_of(context, "psnr")] == number
