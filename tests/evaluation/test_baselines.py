"""Classical methods under the test protocol."""

import dataclasses

import numpy as np
import pytest

from ifanp_jax.classical import interpolation
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import baselines, scores
from ifanp_jax.evaluation.contexts import load_contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.metrics import inpainting
from tests import tiny

HALF = {"evaluate.fractions": (0.5,), "evaluate.halves": False}


def evaluate(dataset, **overrides):
    options = Options.of(tiny.make_config(**HALF | overrides))
    contexts = load_contexts(options, dataset.evaluation[: options.num_images or None].shape[:3])
    return baselines.evaluate_classical(options, dataset, contexts)


def test_large_images_leave_the_gaussian_process_out():
    one = tiny.noise(num_train=1, num_evaluation=1)
    large = Dataset(
        name="large",
        train=one.train.repeat(8, axis=1).repeat(8, axis=2),
        evaluation=one.evaluation.repeat(8, axis=1).repeat(8, axis=2),
    )
    rows, _ = evaluate(large)
    assert [row["method"] for row in rows] == [
        method for method in interpolation.scattered_methods(64, 64) if method != "gaussian_process"
    ]
    assert all(row["num_images"] == 1 and row["psnr"] == row["psnr_completed"] for row in rows)


def test_no_more_images_than_the_models_are_tested_on():
    few = {"evaluate.num_images": 2, "evaluate.classical_images": 3}
    assert {row["num_images"] for row in evaluate(tiny.digits(), **few)[0]} == {2}
    assert evaluate(tiny.digits(), **few | {"evaluate.classical_images": 0}) == ([], {})


def test_holes_have_their_own_methods_and_metrics():
    fields = {"mask.kind": "inpainting", "evaluate.classical_images": 2, "evaluate.num_images": 6}
    noise = tiny.noise(shape=(16, 16, 3))
    rows, values = evaluate(noise, **fields)
    options = Options.of(tiny.make_config(**HALF | fields))
    contexts = load_contexts(options, (6, 16, 16))
    available, missing = interpolation.hole_methods()
    assert baselines.missing_methods(contexts) == list(missing)
    assert [(row["mask"], row["method"]) for row in rows] == [
        *(("random", method) for method in interpolation.METHODS),
        *((kind, method) for kind in ("centre", "box", "strokes") for method in available),
    ]
    image, box = noise.evaluation[:2] / np.float32(255), contexts["box"].first(2)
    mean = interpolation.complete_images(image, box.masks, methods=["mean"])["mean"]
    expected = np.asarray(inpainting.measure(mean, image, box.masks)["hole_psnr"])
    np.testing.assert_array_equal(scores.select_values(box, values, method="mean")["hole_psnr"], expected)
    row = next(row for row in rows if (row["mask"], row["method"]) == ("box", "mean"))
    assert row["hole_psnr"] == pytest.approx(expected.mean()) and row["num_images"] == 2
    assert row["sha256"] == box.sha256 != contexts["box"].sha256
    assert "hole_psnr" not in rows[0]
    scattered = {name: context for name, context in contexts.items() if not context.is_hole}
    assert baselines.missing_methods(scattered) == []
    alone, _ = baselines.evaluate_classical(options, dataclasses.replace(noise, name="x"), scattered)
    assert alone == rows[: len(alone)]
