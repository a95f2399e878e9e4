"""Figures of a run, and the validation that they show."""

import dataclasses

import numpy as np
import pytest

from ifanp_jax.evaluation import evaluate, figures, panels, validation
from ifanp_jax.evaluation.contexts import Context, load_contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.training import metrics_file
from tests import helpers, tiny
from tests.inpainters import trainings as inpainters


@pytest.fixture(scope="module")
def untrained():
    return helpers.make_run(tiny.make_config(), (8, 8, 1))


def read_pixels(path):
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_figures_are_drawn(untrained, tmp_path):
    writer = metrics_file.MetricWriter(tmp_path, step=0)
    for step in (1, 2):
        values = {"loss": 1.0 / step, "mse": 0.1, "kl": 1.0}
        writer.write(
            step, {f"{split}/{name}": value for name, value in values.items() for split in ("train", "val")}
        )
    writer.close()
    evaluation, _ = evaluate.evaluate(untrained.model, tiny.digits())
    options = Options.of(untrained.config)
    contexts = load_contexts(options, tiny.digits().evaluation[:8].shape[:3])
    panels.draw(untrained.model, tiny.digits(), evaluation, tmp_path, options, contexts=contexts)
    for name in ("completions.png", "training.png", "reliability.png"):
        assert min(read_pixels(tmp_path / name).shape[:2]) > 200
    magenta = np.abs(read_pixels(tmp_path / "completions.png") - [217, 0, 191]) < 4
    assert magenta.all(axis=-1).mean() > 0.01


def test_standard_deviations_have_one_scale_in_every_figure(tmp_path):
    panel = figures.Panel(
        name="one",
        image=np.zeros((1, 8, 8, 1)),
        mask=np.zeros((1, 8, 8, 1), bool),
        samples=np.zeros((3, 1, 8, 8, 1)),
        mean=np.zeros((1, 8, 8, 1)),
        deviation=np.full((1, 8, 8, 1), 0.1),
    )
    wide = dataclasses.replace(panel, deviation=np.where(np.eye(8, dtype=bool)[None, ..., None], 0.25, 0.1))

    def colours(name, shown):
        figures.draw_completions(tmp_path / name, shown)
        pixels = read_pixels(tmp_path / name).reshape(-1, 3)
        return {tuple(colour) for colour in pixels}

    import matplotlib

    expected = tuple(
        int(255 * value) for value in matplotlib.colormaps[figures.DEVIATION_COLOURS](0.1 / 0.25)[:3]
    )
    for name, shown in (("alone.png", [panel]), ("beside.png", [panel, wide])):
        assert any(np.abs(np.subtract(colour, expected)).max() <= 2 for colour in colours(name, shown))


def test_samples_are_drawn_by_rounds_where_they_are_evaluated(untrained):
    images = helpers.random_image(1, 8, 8, 1) / np.float32(255)
    shown = {}
    for rounds in (0, 3):
        options = Options.of(tiny.make_config(**{"evaluate.rounds": rounds}))
        context = Context("random", 0.0, np.zeros((1, 8, 8, 1), bool))
        (shown[rounds],) = panels.list_panels(untrained.model, images, [context], options)
    np.testing.assert_array_equal(shown[0].mean, shown[3].mean)
    assert len(shown[3].samples) == figures.NUM_SAMPLES_SHOWN
    assert shown[3].samples.min() >= 0 and shown[3].samples.max() <= 1  # drawn values are clipped
    assert shown[0].samples.max() > 1  # means of this model are not
    assert [panel.num_rounds for panel in shown.values()] == [0, 3]


def test_a_model_without_a_scale_shows_its_one_answer_whatever_the_rounds(tmp_path):
    config = inpainters.make_config(**{"evaluate.rounds": 3})
    model = helpers.make_model(config, (16, 16, 3))
    images = helpers.random_image(1, 16, 16, 3) / np.float32(255)
    (panel,) = panels.list_panels(
        model, images, [Context("random", 0.0, np.zeros((1, 16, 16, 1), bool))], Options.of(config)
    )
    assert panel.num_rounds == 0 and panel.columns == ("context", "answer", "truth")
    several = dataclasses.replace(panel, deviation=np.zeros_like(panel.mean))
    widths = []
    for name, shown in (("one.png", panel), ("several.png", several)):
        figures.draw_completions(tmp_path / name, [shown])
        widths.append(read_pixels(tmp_path / name).shape[1])
    assert widths[0] < widths[1]


def test_a_training_without_kl_has_no_panel_for_it(tmp_path):
    rows = [{"step": step, "train/loss": 1.0, "train/mse": 0.1} for step in (1, 2)]
    figures.draw_training(tmp_path / "two.png", rows)
    figures.draw_training(tmp_path / "three.png", [row | {"train/kl": 1.0} for row in rows])
    figures.draw_training(tmp_path / "none.png", [])
    two, three = (read_pixels(tmp_path / name).shape for name in ("two.png", "three.png"))
    assert two[1] * 3 == three[1] * 2


def test_validation_is_drawn_beside_training(tmp_path):
    rows = [{"step": step, "train/loss": 3.0 / step, "train/psnr": 10.0 + step} for step in (1, 2, 3)]
    held_out = [
        {"step": 3, "val/loss": 1.5, "val/psnr": 12.0},
        {"step": 2, "val/loss": 2.0, "val/psnr": 11.0},
    ]
    figures.draw_training(tmp_path / "alone.png", rows)
    figures.draw_training(tmp_path / "both.png", rows + held_out)
    orange = [
        np.split(np.abs(read_pixels(tmp_path / name) - [255, 127, 14]).max(axis=-1) < 8, 2, axis=1)
        for name in ("alone.png", "both.png")
    ]
    assert not np.any(orange[0])
    assert all(panel.sum() > 50 for panel in orange[1])


def test_validation_is_the_evaluation_of_a_few_images(untrained):
    config, dataset = untrained.config, tiny.digits()
    row = validation.make_validation(config, dataset)(untrained)
    assert set(row) == {f"val/{name}" for name in (*validation.METRICS, "loss")}
    config = tiny.make_config(
        **{"evaluate.fractions": (0.4,), "evaluate.halves": False, "evaluate.num_images": 256}
    )
    evaluation, _ = evaluate.evaluate(untrained.model, dataset, options=Options.of(config))
    for name in validation.METRICS:
        assert row[f"val/{name}"] == pytest.approx(evaluation["cells"][0][name], rel=1e-5)
    cell = evaluation["cells"][0]
    assert row["val/loss"] == pytest.approx(cell["kl"] - cell["reconstruction"], rel=1e-5)
