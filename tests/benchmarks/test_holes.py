import numpy as np
import pytest
from PIL import Image

from benchmarks import holes
from ifanp_jax.errors import UserError


@pytest.fixture
def without_weights(monkeypatch):
    """LPIPS by the mean difference: its own test has the true one."""
    monkeypatch.setattr(holes.lpips, "lpips", lambda x, y: np.abs(x - y).mean(axis=(1, 2, 3)))


def test_the_truth_is_best_in_every_value(without_weights):
    truth = np.random.default_rng(0).uniform(size=(90, 80, 3)).astype(np.float32)
    known = np.ones((90, 80), bool)
    known[20:60, 20:50] = False
    best, grey = (
        holes.measure(truth, answer, known) for answer in (truth, np.where(known[..., None], truth, 0.5))
    )
    assert (
        best["LPIPS"] == best["texture"] == 0
        and best["gradients"] == 1
        and best["PSNR"] == pytest.approx(100)
    )
    assert grey["PSNR"] == pytest.approx(-10 * np.log10(np.square(truth - 0.5)[~known].mean()), rel=1e-4)
    assert grey["LPIPS"] > 0 and grey["texture"] > 5 and grey["gradients"] == 0


def test_every_damage_leaves_most_of_a_picture():
    for name, draw in holes.DAMAGES.items():
        known = draw(np.random.default_rng(1), (200, 240))
        assert known.shape == (200, 240) and known.dtype == np.bool_, name
        assert 0.15 < known.mean() < 1, name


def test_methods_are_measured_on_every_damage(without_weights, monkeypatch, tmp_path):
    picture = np.random.default_rng(2).integers(0, 255, (180, 170, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    dust = np.full((60, 60), 255, np.uint8)
    dust[20:24, 30:50] = 0
    (tmp_path / "film").mkdir()
    Image.fromarray(dust).save(tmp_path / "film" / "dust.png")

    def ask(method, model, cases):
        truths = [case.picture / np.float32(255) for case in cases]
        if method == "grey":
            truths = [np.where(case.known[..., None], x, 0.5) for x, case in zip(truths, cases, strict=True)]
        return [holes.Answer(values, 10.0**number, 7.0) for number, values in enumerate(truths)]

    monkeypatch.setattr(holes, "list_methods", lambda: ["truth", "grey"])
    monkeypatch.setattr(holes, "ask", ask)
    result = holes.run(tmp_path, masks=tmp_path / "film", num_pictures=1, answers=tmp_path / "answers")
    assert result["num_pictures"] == 1 and list(result["cells"]) == [*holes.DAMAGES, holes.FILM]
    lines = holes.list_lines(result)
    assert len(lines) == 2 + 2 * 7 and lines[2].startswith("| thin marks | truth | 100.00 | 0.000 |")
    assert lines[2].endswith("| 1.0 | 7 |")
    assert len(list((tmp_path / "answers").glob("*.png"))) == 3 * 7
    with pytest.raises(UserError, match="no picture"):
        holes.run(tmp_path / "none")


def test_a_method_answers_in_a_process_of_its_own():
    known = np.ones((40, 40), bool)
    known[10:20, 10:20] = False
    case = holes.Case(np.full((40, 40, 3), 51, np.uint8), known, "00 box", "boxes")
    (answer,) = holes.ask("patch_match", "photos", [case])
    np.testing.assert_allclose(answer.values, 0.2, atol=1e-6)
    assert 0 < answer.seconds < 60 and answer.mebibytes > 20
    assert {holes.MEAN, holes.COMPLETED, "patch_match"} <= set(holes.list_methods())
    assert holes.choose_methods(["patch_match"]) == ["patch_match"]
    assert holes.choose_methods([]) == holes.list_methods()
    with pytest.raises(UserError, match=r"--method is 'magic'; choose one of model, mean"):
        holes.choose_methods(["magic"])


@pytest.mark.parametrize("method", holes.OTHERS)
def test_other_programs_answer_where_they_are_installed(method):
    if method not in holes.list_methods():
        pytest.skip(f"{method} is not installed")
    picture = np.tile(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8), (8, 8, 1))
    known = np.ones((64, 64), bool)
    known[24:36, 24:36] = False
    (answer,) = holes.ask(method, "photos", [holes.Case(picture, known, "00 box", "boxes")])
    truth = picture / np.float32(255)
    np.testing.assert_array_equal(answer.values[known], truth[known])
    assert answer.values.dtype == np.float32 and np.abs(answer.values - truth)[~known].mean() < 0.3


def test_ours_is_compared_in_large_holes_with_the_best_peer_of_each():
    def rows(*values):
        return [{"LPIPS": value, "texture": 10 * value, "PSNR": 20 - value} for value in values]

    found = {
        "boxes": {holes.MEAN: rows(0.4, 0.6), holes.COMPLETED: rows(0.2, 0.3)},
        "objects": {holes.MEAN: rows(0.5), holes.COMPLETED: rows(0.25)},
        "thin marks": {holes.MEAN: rows(9.0), holes.COMPLETED: rows(1.0), "patch_match": rows(1.0)},
    }
    assert holes.compare(found)["near"] == 1  # there is no peer
    for damage, values in (("boxes", (0.19, 0.2)), ("objects", (0.5,))):
        found[damage] |= {"patch_match": rows(*values), "biharmonic": rows(*(2 * value for value in values))}
    result = holes.compare(found)
    assert result["count"] == 3 and result["near"] == pytest.approx(2 / 3)  # 0.2 <= 1.1 * 0.19, 0.3 > 0.22
    assert result["near_pictures"] == 0.5  # 0.225 <= 1.1 * 0.345; the second picture has one hole, 0.3 > 0.22
    assert result["LPIPS"] == result["texture"] == pytest.approx(0.5)
    assert result["PSNR"] == pytest.approx(0.25)
    assert holes.compare({"thin marks": found["thin marks"]}) is None
