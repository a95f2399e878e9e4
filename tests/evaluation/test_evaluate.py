"""The test protocol: fixed contexts, per-image values, tables."""

import json

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats

from configs import digits_ifanp
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import evaluate, report
from ifanp_jax.metrics import calibration
from ifanp_jax.training import metrics_file, runs


def small_config():
    config = digits_ifanp.get_config()
    config.update_from_flattened_dict(
        {
            "model.width": 8,
            "model.latent_dim": 4,
            "model.encoder_depth": 1,
            "model.decoder_depth": 1,
            "evaluate.num_samples": 4,
            "evaluate.fractions": (0.2, 0.6),
            "evaluate.classical_images": 3,
            "evaluate.figure_images": 2,
        }
    )
    return config


@pytest.fixture(scope="module")
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (30, 12, 12, 1), np.uint8)
    return Dataset(name="noise", train=images[:20], evaluation=images[20:])


@pytest.fixture(scope="module")
def model_and_state(dataset):
    model, _, init = runs.make_model(small_config(), dataset.train.shape[1:])
    return model, init(jax.random.key(0))


def test_contexts_do_not_depend_on_the_number_of_images():
    few = evaluate.contexts(0, "random", 0.4, (3, 8, 8))
    many = evaluate.contexts(0, "random", 0.4, (7, 8, 8))
    np.testing.assert_array_equal(few, many[:3])
    assert (many.sum(axis=(1, 2, 3)) == round(0.4 * 64)).all()
    assert (evaluate.contexts(1, "random", 0.4, (3, 8, 8)) != few).any()
    assert (many[0] != many[1]).any()


def test_batch_size_changes_no_number(dataset, model_and_state):
    model, state = model_and_state
    context = evaluate.contexts(0, "random", 0.4, dataset.evaluation.shape[:3])
    answers = []
    for batch_size in (10, 4, 3):
        config = small_config()
        config.evaluate.batch_size = batch_size
        answers.append(evaluate.make_evaluation(config, model)(state.params, dataset.evaluation, context))
    assert answers[0]["psnr"].shape == (10,)
    assert answers[0]["kl_per_dim"].shape == (10, 4)
    assert "ssim" in answers[0]
    for other in answers[1:]:
        for name, value in answers[0].items():
            np.testing.assert_allclose(other[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("target", ["all", "unobserved"])
def test_likelihood_coverage_and_crps_are_those_of_the_mixture_of_the_samples(
    dataset, model_and_state, target
):
    model, state = model_and_state
    params = jax.tree.map(lambda leaf: 3 * leaf, state.params)  # samples that differ
    images = dataset.evaluation[:2]
    mask = evaluate.contexts(0, "random", 0.4, images.shape[:3])
    key, options = jax.random.key(1), {"num_samples": 4}
    values = evaluate.evaluate_batch(key, model, params, images, mask, target=target, **options)
    given = images / np.float32(255)
    completion = model.apply(
        {"params": params}, given, mask, **options, method="complete", rngs={"sample": key}
    )
    samples, scale = np.asarray(completion.samples, np.float64), np.asarray(completion.scale, np.float64)

    counted = np.ones_like(mask) if target == "all" else ~mask
    per_sample = (scipy.stats.norm.logpdf(given, samples, scale) * counted).sum(axis=(2, 3, 4))
    bound = scipy.special.logsumexp(per_sample, axis=0) - np.log(4)
    assert (bound > per_sample.mean(axis=0) + 0.1).all()  # not the mean of the samples' log-likelihoods
    np.testing.assert_allclose(values["log_prob_per_image"], bound, rtol=1e-4)
    np.testing.assert_allclose(values["log_prob"], bound / counted.sum(axis=(1, 2, 3)), rtol=1e-4)

    def mean_over_unobserved(value):
        return (value * ~mask).sum(axis=(1, 2, 3)) / (~mask).sum(axis=(1, 2, 3))

    transform = scipy.stats.norm.cdf(given, samples, scale).mean(axis=0)
    for index, level in enumerate(calibration.LEVELS):
        share = mean_over_unobserved(np.abs(transform - 0.5) <= level / 2)
        np.testing.assert_allclose(values["coverage"][:, index], share, atol=0.02)

    def distance(difference, variance):  # E|X| of X ~ Normal(difference, variance)
        ratio = difference / np.sqrt(variance)
        normal = scipy.stats.norm
        return 2 * np.sqrt(variance) * normal.pdf(ratio) + difference * (2 * normal.cdf(ratio) - 1)

    between = distance(samples[:, None] - samples[None], np.square(scale)[:, None] + np.square(scale)[None])
    crps = distance(given - samples, np.square(scale)).mean(axis=0) - between.mean(axis=(0, 1)) / 2
    np.testing.assert_allclose(values["crps"], mean_over_unobserved(crps), rtol=1e-3)


def test_evaluation_has_the_promised_names(dataset, model_and_state, tmp_path):
    evaluation, values = evaluate.run(small_config(), *model_and_state, dataset)
    assert {"model", "data", "step", "num_parameters", "cells", "classical"} <= set(evaluation)
    assert [(cell["mask"], cell["fraction"]) for cell in evaluation["cells"]] == [
        ("random", 0.2), ("random", 0.6), ("top", 0.5), ("bottom", 0.5), ("left", 0.5), ("right", 0.5)
    ]  # fmt: skip
    for cell in evaluation["cells"]:
        assert cell["num_images"] == 10
        assert cell["kl"] == pytest.approx(sum(cell["kl_per_dim"]), rel=1e-4)
        low, high = cell["psnr_completed_interval"]
        assert low <= cell["psnr_completed"] <= high
        assert cell["psnr_unobserved"] <= cell["psnr_completed"]
        best = evaluate.best_classical(evaluation, cell)
        assert best["num_images"] == 3
        assert best["psnr"] == pytest.approx(best["psnr_completed"])
    evaluate.write(evaluation, values, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation
    with np.load(tmp_path / "evaluation.npz", allow_pickle=False) as archive:
        per_image = archive[evaluate.value_name("random", 0.2, "psnr")]
    assert per_image.mean() == pytest.approx(evaluation["cells"][0]["psnr"])
    assert all(0 <= share <= 1 for share in cell["coverage"]) and cell["crps"] > 0
    lines = (tmp_path / "evaluation.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 * (2 + len(evaluation["cells"]))


def test_small_images_have_no_ssim_and_zero_images_no_classical_rows(dataset):
    config = small_config()
    config.evaluate.classical_images = 0
    small = Dataset(name="small", train=dataset.train[:, :8, :8], evaluation=dataset.evaluation[:, :8, :8])
    model, _, init = runs.make_model(config, (8, 8, 1))
    evaluation, _ = evaluate.run(config, model, init(jax.random.key(0)), small)
    assert evaluation["classical"] == []
    assert "ssim" not in evaluation["cells"][0]
    assert evaluate.table_rows(evaluation)[0][5] == "-"


def test_large_images_leave_the_gaussian_process_out(dataset):
    config = small_config()
    config.evaluate.classical_images = 1
    config.evaluate.fractions, config.evaluate.halves = (0.5,), False
    large = Dataset(
        name="large",
        train=dataset.train[:1].repeat(8, axis=1).repeat(8, axis=2),
        evaluation=dataset.evaluation[:1].repeat(8, axis=1).repeat(8, axis=2),
    )
    rows = evaluate.evaluate_classical(config.evaluate, large)
    assert [row["method"] for row in rows] == ["nearest", "linear", "cubic", "biharmonic"]


def test_figures_are_drawn(dataset, model_and_state, tmp_path):
    from PIL import Image

    writer = metrics_file.MetricWriter(tmp_path, step=0)
    for step in (1, 2):
        writer.write(step, {"train/loss": 1.0 / step, "train/mse": 0.1, "train/kl": 1.0})
    writer.close()
    evaluation, _ = evaluate.run(small_config(), *model_and_state, dataset)
    report.draw(small_config(), *model_and_state, dataset, evaluation, tmp_path)
    for name in ("completions.png", "training.png", "reliability.png"):
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert min(pixels.shape[:2]) > 200
        assert pixels.std() > 5
    magenta = np.abs(np.asarray(Image.open(tmp_path / "completions.png").convert("RGB")) - [217, 0, 191]) < 4
    assert magenta.all(axis=-1).mean() > 0.01
