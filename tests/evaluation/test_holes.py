"""Evaluation over holes: the masks that are kept, the numbers, and their tables."""

import dataclasses
import json

import numpy as np
import pytest

from ifanp_jax.classical import interpolation
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import evaluate, hole_tables, hole_values, holes, report, validation
from ifanp_jax.metrics import inpainting
from tests import helpers, tiny

NOISE = tiny.noise(shape=(16, 16, 3))
FIELDS = {
    "mask.kind": "inpainting",
    "evaluate.fractions": (),
    "evaluate.halves": False,
    "evaluate.classical_images": 2,
    "evaluate.num_images": 6,
}


@pytest.fixture(scope="module")
def untrained():
    return helpers.make_run(tiny.make_config(**FIELDS), (16, 16, 3))


@pytest.fixture(scope="module")
def evaluated(untrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("holes")
    evaluation, values = evaluate.evaluate(untrained.model, NOISE, folder=folder)
    report.write(evaluation, values, folder)
    return folder, evaluation, values


def test_an_image_has_the_same_hole_among_any_others():
    for kind in holes.KINDS:
        few, many = (holes.draw(kind, (count, 16, 16), seed=3) for count in (3, 70))
        np.testing.assert_array_equal(few, many[:3])
        assert few.shape == (3, 16, 16, 1) and few.dtype == bool
        shares = (~many).mean(axis=(1, 2, 3))
        assert (shares > 0).all() and (shares < 1).all()
    np.testing.assert_array_equal(holes.draw("centre", (1, 16, 16), seed=0)[0, 4:12, 4:12], False)
    strokes = holes.draw("strokes", (2, 16, 16), seed=0)
    assert (strokes[0] != strokes[1]).any()
    assert (strokes != holes.draw("strokes", (2, 16, 16), seed=1)).any()


def test_holes_are_drawn_once_and_read_again(evaluated):
    folder, evaluation, _ = evaluated
    config = tiny.make_config(**FIELDS | {"evaluate.seed": 5})  # what is kept counts
    kept = holes.keep(config, NOISE, folder)
    assert tuple(kept) == holes.KINDS
    for row in evaluation["holes"]["rows"]:
        assert row["sha256"] == inpainting.hash_masks(kept[row["hole"]])
        np.testing.assert_array_equal(kept[row["hole"]], holes.draw(row["hole"], (6, 16, 16), seed=0))
    fewer = tiny.make_config(**FIELDS | {"evaluate.num_images": 2})
    np.testing.assert_array_equal(holes.keep(fewer, NOISE, folder)["box"], kept["box"][:2])
    assert holes.keep(tiny.make_config(), NOISE, folder) == {}


def test_holes_of_another_project_are_taken(tmp_path, untrained):
    path = tmp_path / holes.FILE_NAME
    stripes = np.broadcast_to(np.arange(16) % 4, (6, 16, 16)).astype(np.uint8)
    np.savez(path, stripes=stripes)
    config = tiny.make_config(**FIELDS)
    assert list(holes.keep(config, NOISE, tmp_path)) == ["stripes"]
    np.testing.assert_array_equal(holes.keep(config, NOISE, tmp_path)["stripes"][..., 0], stripes != 0)
    for wrong, message in (
        (
            {"a": stripes[:2]},
            "a in .* holds 2 masks of 16x16 pixels, but the evaluation has 6 images of 16x16",
        ),
        ({"a": stripes[:, :8]}, "6 masks of 8x16"),
        ({"a": stripes[0]}, r"uint8 of shape \(16, 16\); give"),
        ({"a": np.full((6, 16, 16), "x")}, "give numbers or booleans"),
    ):
        np.savez(path, **wrong)
        with pytest.raises(UserError, match=message):
            holes.keep(config, NOISE, tmp_path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match=r"cannot be read .*; restore it, or remove it"):
        holes.keep(config, NOISE, tmp_path)


def test_every_method_meets_the_same_holes(evaluated):
    _, evaluation, values = evaluated
    found = evaluation["holes"]
    assert [(row["hole"], row["method"]) for row in found["rows"]] == [
        (kind, "image_np.IFANP") for kind in holes.KINDS
    ]
    available, missing = interpolation.hole_methods()
    assert found["missing"] == list(missing)
    assert [(row["hole"], row["method"]) for row in found["classical"]] == [
        (kind, method) for kind in holes.KINDS for method in available
    ]
    image, mask = NOISE.evaluation[:2] / np.float32(255), holes.draw("box", (2, 16, 16), seed=0)
    mean = interpolation.complete_images(image, mask, methods=["mean"])["mean"]
    expected = np.asarray(inpainting.measure(mean, image, mask)["hole_psnr"])
    np.testing.assert_array_equal(values[hole_values.value_name("box", "hole_psnr", method="mean")], expected)
    row = next(row for row in found["classical"] if (row["hole"], row["method"]) == ("box", "mean"))
    assert row["hole_psnr"] == pytest.approx(expected.mean()) and row["num_images"] == 2


def test_values_are_those_of_the_models_pictures(evaluated, untrained):
    _, evaluation, values = evaluated
    image = NOISE.evaluation[:6] / np.float32(255)
    for row in evaluation["holes"]["rows"]:
        mask = holes.draw(row["hole"], (6, 16, 16), seed=0)
        answer = hole_values.complete_images(untrained.model, image, mask)
        np.testing.assert_array_equal(np.where(mask, answer, 0), np.where(mask, image, 0))
        for name, expected in hole_values.measure(answer, image, mask).items():
            found = values[hole_values.value_name(row["hole"], name)]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
            finite = expected[np.isfinite(expected)]
            if finite.size:
                assert row[name] == pytest.approx(finite.mean(), rel=1e-3, abs=1e-4)
                low, high = row[f"{name}_interval"]
                assert low <= row[name] <= high


def test_bins_of_the_area_hold_every_image_once():
    mask = np.ones((4, 10, 10, 1), bool)
    for index, count in enumerate((5, 5, 25, 100)):
        mask.reshape(4, -1)[index, :count] = False
    values = {"hole_psnr": np.array([10.0, 20.0, 30.0, np.nan])}
    rows = hole_values.by_area(values, mask, seed=0)
    assert [(row["bin"], row["num_images"]) for row in rows] == [
        ("0-10 %", 2), ("20-30 %", 1), ("above 60 %", 1)
    ]  # fmt: skip
    assert [row.get("hole_psnr") for row in rows] == [15.0, 30.0, None]
    assert hole_values.by_area({"hole_psnr": values["hole_psnr"][:2]}, mask[:2], seed=0) == []


def test_tables_show_every_number(evaluated, capsys):
    folder, evaluation, _ = evaluated
    assert json.loads((folder / "evaluation.json").read_text()) == evaluation
    lines = (folder / "evaluation.md").read_text().splitlines()
    assert lines[0].endswith("6 held-out images.")  # no random contexts, no table of them
    text = "\n".join(lines)
    row = evaluation["holes"]["rows"][0]
    low, high = row["hole_psnr_interval"]
    assert f"| {row['hole_psnr']:.2f} ({low:.2f}-{high:.2f}) |" in text
    assert f"centre {row['sha256'][:12]} (25% hidden)" in text and inpainting.SSIM_CONVENTION in text
    count = len(evaluation["holes"]["rows"]) + len(evaluation["holes"]["classical"])
    bins = sum(len(row["bins"]) for row in evaluation["holes"]["rows"])
    assert len([line for line in lines if line.startswith("|")]) == 2 * (count + 2) + (
        bins + 2 if bins else 0
    )
    hole_tables.print_table(evaluation)
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    assert len([line for line in printed if line.startswith(holes.KINDS)]) == count
    missing = evaluation["holes"] | {"missing": ["telea"]}
    assert "Left out, for OpenCV is not installed (opencv-python-headless): telea." in hole_tables.caption(
        missing
    )
    assert hole_tables.list_lines({"cells": []}) == []


def test_figures_and_validation_are_of_holes(evaluated, untrained, tmp_path):
    _, evaluation, _ = evaluated
    report.draw(untrained.model, NOISE, evaluation, tmp_path)
    assert (tmp_path / "completions.png").is_file() and (tmp_path / holes.FILE_NAME).is_file()
    few = dataclasses.replace(NOISE, evaluation=NOISE.evaluation[:6])
    row = validation.make_validation(untrained.config, few)(untrained)
    centre = evaluation["holes"]["rows"][0]
    assert row["val/psnr_unobserved"] == pytest.approx(centre["hole_psnr"], abs=0.05)  # not rounded to 8 bits
