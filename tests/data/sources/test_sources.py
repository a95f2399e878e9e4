"""Rules of every source, and the digits."""

import numpy as np
import pytest

from ifanp_jax.data import sources
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.data.sources import digits
from ifanp_jax.errors import UserError
from tests.data.sources.data import make_config


def test_unknown_source_and_negative_limit(tmp_path):
    with pytest.raises(UserError, match=r"data\.source .*'web'.* digits, tfds, folder, arrays"):
        sources.load(make_config(tmp_path, source="web"))
    with pytest.raises(UserError, match=r"data\.max_eval_images is -1"):
        sources.load(make_config(tmp_path, max_eval_images=-1))


@pytest.mark.parametrize("source", ["tfds", "arrays"])
def test_equal_splits_are_refused(tmp_path, source):
    with pytest.raises(UserError, match="both 'train' but evaluation must be held out"):
        sources.load(make_config(tmp_path, source=source, eval_split="train"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": -1}, "image_size is -1"),
        ({"crop_size": -2}, "crop_size is -2"),
        ({"channels": 2}, "channels is 2"),
        ({"crop_box": (0, 0, 4)}, "must be .top, left, height, width."),
        ({"crop_box": (0, 0, 4, 4), "crop_size": 4}, "set only one"),
        ({"crop_size": 9}, "9x9 central crop does not fit"),
    ],
)
def test_bad_recipes(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        sources.load(make_config(tmp_path, **fields))


@pytest.mark.parametrize(
    ("train", "evaluation", "message"),
    [
        (
            np.zeros((2, 4, 4, 1), np.float32),
            np.zeros((2, 4, 4, 1), np.uint8),
            "train images of x are float32",
        ),
        (
            np.full((2, 4, 4, 1), np.nan),
            np.zeros((2, 4, 4, 1), np.uint8),
            r"float64 \(2, 4, 4, 1\) but must be uint8",
        ),
        (
            np.zeros((2, 4, 4, 1), np.uint8),
            np.zeros((2, 4, 4, 1), np.uint16),
            "evaluation images of x are uint16",
        ),
        (np.zeros((2, 4, 4, 4), np.uint8), np.zeros((2, 4, 4, 4), np.uint8), r"\(N, H, W, 1 or 3\)"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 4, 4), np.uint8), "evaluation images of x are uint8"),
        (np.zeros((0, 4, 4, 1), np.uint8), np.zeros((2, 4, 4, 1), np.uint8), "at least one image"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 5, 4, 1), np.uint8), "both must be equal"),
    ],
)
def test_a_dataset_is_of_bytes_of_one_shape(train, evaluation, message):
    with pytest.raises(UserError, match=message):
        Dataset(name="x", train=train, evaluation=evaluation)


def test_digits_are_all_there_once(tmp_path):
    from sklearn.datasets import load_digits

    dataset = sources.load(make_config(tmp_path))
    assert dataset.train.shape == (1497, 8, 8, 1) and dataset.evaluation.shape == (300, 8, 8, 1)
    expected = np.round(load_digits().images * 255 / 16).astype(np.uint8).reshape(1797, 64)
    together = np.concatenate([dataset.train, dataset.evaluation]).reshape(1797, 64)
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(expected, axis=0))
    assert sorted(map(bytes, together)) == sorted(map(bytes, expected))


def test_digits_split_never_changes():
    order = np.argsort(np.random.PCG64(digits.SPLIT_SEED).random_raw(1797), kind="stable")
    assert list(order[:5]) == [855, 921, 269, 1185, 11]


def test_digits_limits_and_recipe(tmp_path):
    config = make_config(tmp_path, max_train_images=10, max_eval_images=5, image_size=4, channels=3)
    dataset = sources.load(config)
    assert dataset.train.shape == (10, 4, 4, 3) and dataset.evaluation.shape == (5, 4, 4, 3)
