"""The test protocol: values per image and their means."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import baselines, evaluate, report
from ifanp_jax.evaluation.cells import draw_contexts, value_name
from ifanp_jax.metrics import calibration
from ifanp_jax.models.outputs import Completion, Terms
from tests import helpers, tiny

NOISE = tiny.noise()  # 12x12: large enough for SSIM
CELLS = [("random", 0.2), ("random", 0.6), *((side, 0.5) for side in ("top", "bottom", "left", "right"))]


def make_config(**overrides):
    fields = {"evaluate.num_images": 0, "evaluate.num_samples": 4, "evaluate.fractions": (0.2, 0.6)}
    return tiny.make_config(**fields | {"evaluate.classical_images": 3} | overrides)


@pytest.fixture(scope="module")
def untrained():
    return helpers.make_model(make_config(), NOISE.train.shape[1:])


class MeanColour(nn.Module):
    """Answers with the mean of the observed pixels: no latent variable, no scale, no parameter."""

    @nn.compact
    def __call__(self, image, mask, *, train, num_samples=1, target="all"):
        samples = self.complete(image, mask, num_samples=1).samples
        return Terms(reconstruction=jnp.zeros(len(image)), prediction=samples[0])

    def complete(self, image, mask, *, num_samples):
        total = jnp.where(mask, image, 0).sum(axis=(1, 2), keepdims=True)
        mean = total / mask.sum(axis=(1, 2), keepdims=True)
        return Completion(samples=jnp.broadcast_to(mean, (num_samples, *image.shape)))


class Correlated(MeanColour):
    """The same with one covariance everywhere."""

    def complete(self, image, mask, *, num_samples):
        samples = super().complete(image, mask, num_samples=num_samples).samples
        factor = jnp.asarray(FACTOR, jnp.float32)
        return Completion(
            samples=samples,
            scale=jnp.broadcast_to(jnp.sqrt(jnp.square(factor).sum(axis=-1)), samples.shape),
            cholesky=jnp.broadcast_to(factor, (*samples.shape, 3)),
        )


FACTOR = np.array([[0.3, 0, 0], [0.2, 0.1, 0], [0.1, 0.05, 0.2]])


def test_batch_size_changes_no_number(untrained):
    context = draw_contexts(0, "random", 0.4, NOISE.evaluation.shape[:3])
    answers = []
    for batch_size in (10, 4, 3):
        run = dataclasses.replace(untrained, config=make_config(**{"evaluate.batch_size": batch_size}))
        answers.append(evaluate.evaluate_images(run, NOISE.evaluation, context))
    assert answers[0]["psnr"].shape == (10,)
    assert answers[0]["kl_per_dim"].shape == (10, 4)
    assert "ssim" in answers[0]
    for other in answers[1:]:
        for name, value in answers[0].items():
            np.testing.assert_allclose(other[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("target", ["all", "unobserved"])
def test_likelihood_coverage_and_crps_are_those_of_the_mixture_of_the_samples(untrained, target):
    module = untrained.module
    variables = jax.tree.map(lambda leaf: 3 * leaf, untrained.variables)  # samples that differ
    images = NOISE.evaluation[:2]
    mask = draw_contexts(0, "random", 0.4, images.shape[:3])
    key, options = jax.random.key(1), {"num_samples": 4}
    values = evaluate.evaluate_batch(key, module, variables, images, mask, target=target, **options)
    given = images / np.float32(255)
    completion = module.apply(variables, given, mask, **options, method="complete", rngs={"sample": key})
    samples, scale = np.asarray(completion.samples, np.float64), np.asarray(completion.scale, np.float64)

    counted = np.ones_like(mask) if target == "all" else ~mask
    per_sample = (scipy.stats.norm.logpdf(given, samples, scale) * counted).sum(axis=(2, 3, 4))
    bound = scipy.special.logsumexp(per_sample, axis=0) - np.log(4)
    assert (bound > per_sample.mean(axis=0) + 0.1).all()  # not the mean of the samples' log-likelihoods
    np.testing.assert_allclose(values["log_prob_per_image"], bound, rtol=1e-4)
    np.testing.assert_allclose(values["log_prob"], bound / counted.sum(axis=(1, 2, 3)), rtol=1e-4)

    def mean_over_unobserved(value):
        return (value * ~mask).sum(axis=(1, 2, 3)) / (~mask).sum(axis=(1, 2, 3))

    probabilities = scipy.stats.norm.cdf(given, samples, scale).mean(axis=0)
    for index, level in enumerate(calibration.LEVELS):
        share = mean_over_unobserved(np.abs(probabilities - 0.5) <= level / 2)
        np.testing.assert_allclose(values["coverage"][:, index], share, atol=0.02)

    def distance(difference, variance):  # E|X| of X ~ Normal(difference, variance)
        ratio = difference / np.sqrt(variance)
        normal = scipy.stats.norm
        return 2 * np.sqrt(variance) * normal.pdf(ratio) + difference * (2 * normal.cdf(ratio) - 1)

    between = distance(samples[:, None] - samples[None], np.square(scale)[:, None] + np.square(scale)[None])
    crps = distance(given - samples, np.square(scale)).mean(axis=0) - between.mean(axis=(0, 1)) / 2
    np.testing.assert_allclose(values["crps"], mean_over_unobserved(crps), rtol=1e-3)


def test_correlated_channels_count_in_the_likelihood():
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    mask = draw_contexts(0, "random", 0.5, (2, 4, 4))
    values = evaluate.evaluate_batch(
        jax.random.key(0), Correlated(), {}, image, mask, num_samples=2, target="unobserved"
    )
    given = image / 255
    for index in range(2):
        observed = mask[index, ..., 0]
        normal = scipy.stats.multivariate_normal(given[index][observed].mean(axis=0), FACTOR @ FACTOR.T)
        expected = normal.logpdf(given[index][~observed]).sum()
        np.testing.assert_allclose(values["log_prob_per_image"][index], expected, rtol=1e-4)


def test_evaluation_has_the_promised_names(untrained, tmp_path):
    evaluation, values = evaluate.evaluate(untrained, NOISE)
    assert {"model", "data", "step", "num_parameters", "cells", "classical"} <= set(evaluation)
    assert [(cell["mask"], cell["fraction"]) for cell in evaluation["cells"]] == CELLS
    for cell in evaluation["cells"]:
        assert cell["num_images"] == 10
        assert cell["kl"] == pytest.approx(sum(cell["kl_per_dim"]), rel=1e-4)
        low, high = cell["psnr_completed_interval"]
        assert low <= cell["psnr_completed"] <= high
        assert cell["psnr_unobserved"] <= cell["psnr_completed"]
        best = baselines.best_classical(evaluation["classical"], cell)
        assert best["num_images"] == 3
        assert best["psnr"] == pytest.approx(best["psnr_completed"])
        assert all(0 <= share <= 1 for share in cell["coverage"]) and cell["crps"] > 0
    report.write(evaluation, values, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation
    with np.load(tmp_path / "evaluation.npz", allow_pickle=False) as archive:
        per_image = archive[value_name("random", 0.2, "psnr")]
    assert per_image.mean() == pytest.approx(evaluation["cells"][0]["psnr"])
    lines = (tmp_path / "evaluation.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 * (2 + len(evaluation["cells"]))


def test_a_model_without_latent_variable_and_scale_is_evaluated_by_its_pictures(untrained, tmp_path):
    model = dataclasses.replace(untrained, module=MeanColour())
    evaluation, values = evaluate.evaluate(model, NOISE)
    assert [(cell["mask"], cell["fraction"]) for cell in evaluation["cells"]] == CELLS
    for cell in evaluation["cells"]:
        assert {"psnr", "psnr_completed", "psnr_unobserved", "mse", "ssim"} <= set(cell)
        assert not {"kl", "kl_per_dim", "log_prob", "log_prob_per_image", "crps", "coverage"} & set(cell)
    image, mask = NOISE.evaluation / 255, draw_contexts(0, "random", 0.2, NOISE.evaluation.shape[:3])
    mean = (image * mask).sum(axis=(1, 2, 3)) / mask.sum(axis=(1, 2, 3))
    expected = -10 * np.log10(np.square(image - mean[:, None, None, None]).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(values[value_name("random", 0.2, "psnr")], expected, rtol=1e-4)
    report.write(evaluation, values, tmp_path)
    report.draw(model, NOISE, evaluation, tmp_path)
    assert "|  |  |  |  |" in (tmp_path / "evaluation.md").read_text()
    assert (tmp_path / "completions.png").is_file() and not (tmp_path / "reliability.png").exists()


def test_images_below_the_window_have_no_ssim():
    small = Dataset(name="small", train=NOISE.train[:, :8, :8], evaluation=NOISE.evaluation[:, :8, :8])
    config = make_config(**{"evaluate.classical_images": 0, "evaluate.halves": False})
    evaluation, values = evaluate.evaluate(helpers.make_model(config, (8, 8, 1)), small)
    assert evaluation["classical"] == []
    assert "ssim" not in evaluation["cells"][0]
    assert value_name("random", 0.2, "ssim") not in values
