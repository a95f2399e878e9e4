"""Samples by rounds under the test protocol."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from configs import celeba_multiscale, digits_multiscale, mnist_multiscale
from ifanp_jax.evaluation import by_rounds, evaluate, report
from ifanp_jax.models.base import Completion, ImageModel, Terms
from tests import helpers, tiny

NOISE = tiny.noise(shape=(6, 6, 3))
FACTOR = np.array([[0.3, 0, 0], [0.2, 0.1, 0], [0.1, 0.05, 0.2]], np.float32)


class ContextMean(ImageModel):
    """Answers the mean of the context with one covariance everywhere, or with no scale."""

    has_scale: bool = True

    def __call__(self, image, mask, *, train, num_samples=1, target="all"):
        samples = self.complete(image, mask, num_samples=1).samples
        return Terms(reconstruction=jnp.zeros(len(image)), prediction=samples[0])

    def complete(self, image, mask, *, num_samples):
        total = jnp.where(mask, image, 0).sum(axis=(1, 2), keepdims=True)
        mean = total / jnp.maximum(mask.sum(axis=(1, 2), keepdims=True), 1)
        samples = jnp.broadcast_to(mean, (num_samples, *image.shape))
        if not self.has_scale:
            return Completion(samples=samples)
        scale = jnp.broadcast_to(jnp.sqrt(jnp.square(FACTOR).sum(axis=-1)), samples.shape)
        return Completion(samples, scale, jnp.broadcast_to(FACTOR, (*samples.shape, 3)))


@functools.cache
def make_state():
    """Of another model: those of this file have no parameters."""
    return helpers.make_model(tiny.make_config(), (6, 6, 3))


def make_run(model, **overrides):
    fields = {"evaluate.rounds": 3, "evaluate.rounds_images": 5, "evaluate.num_samples": 4}
    fields |= {"evaluate.fractions": (0.4,), "evaluate.classical_images": 0, "objective.target": "unobserved"}
    config = tiny.make_config(**fields | {"evaluate.num_images": 0} | overrides)
    return dataclasses.replace(make_state(), config=config, module=model)


@pytest.fixture(scope="module")
def answer():
    return evaluate.evaluate(make_run(ContextMean(channels=3)), NOISE)


def test_the_likelihood_of_one_round_is_that_of_the_prediction(answer):
    evaluation, values = answer
    assert evaluation["rounds"] == {"rounds": 3, "rounds_images": 5, "num_samples": 4, "seed": 0}
    for cell in evaluation["cells"]:
        name = f"{cell['mask']} {cell['fraction']:g}"
        one = values[f"{name} rounds_log_prob_one"]
        assert one.shape == (5,) and cell["num_images"] == 10
        np.testing.assert_allclose(one, values[f"{name} log_prob"][:5], rtol=1e-4)
        assert (values[f"{name} rounds_log_prob"] != one).all()
        direct = values[f"{name} rounds_psnr_direct"]
        np.testing.assert_allclose(direct, values[f"{name} psnr_completed"][:5], rtol=1e-5)


def test_a_ratio_is_one_of_means(answer):
    evaluation, values = answer
    cell = evaluation["cells"][0]
    energies = [values[f"random 0.4 rounds_gradient_energy{of}"].mean() for of in ("", "_truth")]
    assert cell["rounds_gradient_ratio"] == pytest.approx(energies[0] / energies[1], rel=1e-5)
    assert cell["rounds_gradient_ratio"] > cell["rounds_gradient_ratio_direct"] > 0
    assert cell["rounds_psnr_best"] > cell["rounds_psnr_one"]


def test_the_table_has_a_row_per_cell(answer, tmp_path):
    evaluation, values = answer
    report.write(evaluation, values, tmp_path)
    text = (tmp_path / "evaluation.md").read_text()
    for fact in ("4 samples", "3 rounds", "first 5 images", "seed 0"):
        assert fact in text
    rows = [x for x in text.partition("| one sample |")[2].splitlines()[2:] if x.startswith("|")]
    assert len(rows) == len(evaluation["cells"]) == 5 and not [row for row in rows if "|  |" in row]
    assert f"| {evaluation['cells'][0]['rounds_log_prob']:.3f} |" in rows[0]


def test_batches_change_no_number(answer):
    _, values = answer
    run = make_run(ContextMean(channels=3), **{"evaluate.batch_size": 12, "evaluate.halves": False})
    _, others = evaluate.evaluate(run, NOISE)
    for name, value in others.items():
        np.testing.assert_allclose(value, values[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("has_scale", "num_rounds"), [(False, 3), (True, 0)])
def test_without_a_scale_or_rounds_there_is_nothing_of_it(has_scale, num_rounds, tmp_path):
    run = make_run(
        ContextMean(has_scale, channels=3), **{"evaluate.rounds": num_rounds, "evaluate.halves": False}
    )
    evaluation, values = evaluate.evaluate(run, NOISE)
    assert not [name for name in (*values, *evaluation["cells"][0]) if "rounds" in name]
    report.write(evaluation, values, tmp_path)
    assert "ounds" not in (tmp_path / "evaluation.md").read_text()


def test_measures_are_their_equations():
    generator = np.random.default_rng(0)
    image, mask = generator.random((2, 5, 4, 3), np.float32), generator.random((2, 5, 4, 1)) < 0.4
    samples = np.where(mask, image, generator.random((3, *image.shape), np.float32))
    prediction, deviation = generator.random((2, *image.shape), np.float32)
    found = by_rounds.measure_samples(samples, prediction, deviation, image, mask)

    def psnr(one):
        return -10 * np.log10(np.square(one - image).mean(axis=(1, 2, 3)))

    by_sample = np.stack([psnr(one) for one in samples])
    kept = np.where(mask, image, prediction)
    for name, expected in (
        ("psnr_one", by_sample.mean(axis=0)),
        ("psnr_best", by_sample.max(axis=0)),
        ("psnr_mean", psnr(samples.mean(axis=0))),
        ("psnr_direct", psnr(kept)),
    ):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4)
    spread = np.sqrt(np.square(samples - kept).mean(axis=0))
    for name, uncertainty in (("rank_correlation", deviation), ("rank_correlation_samples", spread)):
        for b in range(2):
            hidden = ~mask[b, ..., 0]
            error = np.abs(image - prediction)[b][hidden].ravel()
            expected = scipy.stats.spearmanr(uncertainty[b][hidden].ravel(), error).statistic
            np.testing.assert_allclose(found[name][b], expected, rtol=1e-3, atol=1e-5)


def test_our_training_is_evaluated_by_rounds():
    for file in (celeba_multiscale, digits_multiscale, mnist_multiscale):
        assert file.get_config().evaluate.rounds == 16
