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
    known = holes.DAMAGES["boxes"](np.random.default_rng(0), (160, 150))[:90, :80]
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
    answers = {
        "truth": lambda picture, known: picture / np.float32(255),
        "grey": lambda picture, known: np.where(known[..., None], picture / np.float32(255), np.float32(0.5)),
    }
    monkeypatch.setattr(holes, "list_methods", lambda model: answers)
    result = holes.run(tmp_path, num_pictures=2, answers=tmp_path / "answers")
    assert result["num_pictures"] == 1 and set(result["cells"]) == set(holes.DAMAGES)
    lines = holes.list_lines(result)
    assert len(lines) == 2 + 2 * len(holes.DAMAGES) and lines[2].startswith(
        "| thin marks | truth | 100.00 | 0.000 |"
    )
    assert len(list((tmp_path / "answers").glob("*.png"))) == 3 * len(holes.DAMAGES)
    with pytest.raises(UserError, match="no picture"):
        holes.run(tmp_path / "none")
