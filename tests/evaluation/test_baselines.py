"""Interpolation under the test protocol."""

import pytest

from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import baselines
from tests import tiny

ROWS = [
    {"method": "nearest", "mask": "random", "fraction": 0.2, "psnr_completed": 10.0},
    {"method": "cubic", "mask": "random", "fraction": 0.2, "psnr_completed": 12.0},
    {"method": "nearest", "mask": "top", "fraction": 0.5, "psnr_completed": 14.0},
]


def test_large_images_leave_the_gaussian_process_out():
    one = tiny.noise(num_train=1, num_evaluation=1)
    large = Dataset(
        name="large",
        train=one.train.repeat(8, axis=1).repeat(8, axis=2),
        evaluation=one.evaluation.repeat(8, axis=1).repeat(8, axis=2),
    )
    config = tiny.make_config(**{"evaluate.fractions": (0.5,), "evaluate.halves": False}).evaluate
    rows = baselines.evaluate_classical(config, large)
    assert [row["method"] for row in rows] == ["nearest", "linear", "cubic", "biharmonic"]
    assert all(row["num_images"] == 1 and row["psnr"] == row["psnr_completed"] for row in rows)


def test_no_more_images_than_the_models_are_tested_on():
    config = tiny.make_config(
        **{
            "evaluate.fractions": (0.5,),
            "evaluate.halves": False,
            "evaluate.num_images": 2,
            "evaluate.classical_images": 3,
        }
    ).evaluate
    assert {row["num_images"] for row in baselines.evaluate_classical(config, tiny.digits())} == {2}
    config.classical_images = 0
    assert baselines.evaluate_classical(config, tiny.digits()) == []


def test_the_best_method_is_that_of_the_same_contexts():
    assert baselines.best_classical(ROWS, {"mask": "random", "fraction": 0.1 + 0.1}) is ROWS[1]
    assert baselines.best_classical(ROWS, {"mask": "top", "fraction": 0.5}) is ROWS[2]
    assert baselines.best_classical(ROWS, {"mask": "left", "fraction": 0.5}) is None
    assert baselines.rows_of_cell(ROWS, {"mask": "random", "fraction": 0.2}) == ROWS[:2]


@pytest.mark.parametrize("rows", [[], ROWS[2:]])
def test_where_nothing_was_interpolated_nothing_is_best(rows):
    assert baselines.best_classical(rows, {"mask": "random", "fraction": 0.2}) is None
