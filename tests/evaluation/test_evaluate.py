"""The test protocol: values per image and their means."""

import dataclasses
import json
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from ifanp_jax import training
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import evaluate, panels, report, scores, tables, validation
from ifanp_jax.evaluation.contexts import load_contexts, make_context
from ifanp_jax.evaluation.options import Options
from ifanp_jax.inference import predict
from ifanp_jax.metrics import calibration, inpainting
from ifanp_jax.models.base import Completion, ImageModel, Terms
from tests import helpers, tiny

NOISE = tiny.noise()  # 12x12: large enough for SSIM
CELLS = [("random", 0.2), ("random", 0.6), *((side, 0.5) for side in ("top", "bottom", "left", "right"))]


def make_config(**overrides):
    fields = {"evaluate.num_images": 0, "evaluate.num_samples": 4, "evaluate.fractions": (0.2, 0.6)}
    return tiny.make_config(**fields | {"evaluate.classical_images": 3} | overrides)


def draw(shape, fraction):
    return make_context("random", shape, fraction=fraction, seed=0).masks


def read(values, name):
    """Values per image of the cell with 20 % of the pixels."""
    return values[f"random 0.2 {name}"]


@pytest.fixture(scope="module")
def untrained():
    return helpers.make_model(make_config(), NOISE.train.shape[1:])


class MeanColour(ImageModel):
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
    context = draw(NOISE.evaluation.shape[:3], 0.4)
    answers = []
    for batch_size in (10, 4, 3):
        options = Options.of(make_config(**{"evaluate.batch_size": batch_size}))
        answers.append(evaluate.evaluate_images(untrained, NOISE.evaluation, context, options))
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
    mask = draw(images.shape[:3], 0.4)
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
    mask = draw((2, 4, 4), 0.5)
    values = evaluate.evaluate_batch(
        jax.random.key(0), Correlated(channels=3), {}, image, mask, num_samples=2, target="unobserved"
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
        best = scores.best_classical(evaluation["classical"], cell)
        assert best["num_images"] == 3
        assert best["psnr"] == pytest.approx(best["psnr_completed"])
        assert all(0 <= share <= 1 for share in cell["coverage"]) and cell["crps"] > 0
    report.write(evaluation, values, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation
    with np.load(tmp_path / "evaluation.npz", allow_pickle=False) as archive:
        per_image = archive["random 0.2 psnr"]
    assert per_image.mean() == pytest.approx(evaluation["cells"][0]["psnr"])
    lines = (tmp_path / "evaluation.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 * (2 + len(evaluation["cells"]))


def test_a_model_without_latent_variable_and_scale_is_evaluated_by_its_pictures(untrained, tmp_path):
    model = dataclasses.replace(untrained, module=MeanColour(channels=3))
    evaluation, values = evaluate.evaluate(model, NOISE)
    assert [(cell["mask"], cell["fraction"]) for cell in evaluation["cells"]] == CELLS
    for cell in evaluation["cells"]:
        assert {"psnr", "psnr_completed", "psnr_unobserved", "mse", "ssim"} <= set(cell)
        assert not {"kl", "kl_per_dim", "log_prob", "log_prob_per_image", "crps", "coverage"} & set(cell)
    image, mask = NOISE.evaluation / 255, draw(NOISE.evaluation.shape[:3], 0.2)
    mean = (image * mask).sum(axis=(1, 2, 3)) / mask.sum(axis=(1, 2, 3))
    expected = -10 * np.log10(np.square(image - mean[:, None, None, None]).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(read(values, "psnr"), expected, rtol=1e-4)
    report.write(evaluation, values, tmp_path)
    options = Options.of(model.config)
    contexts = load_contexts(options, NOISE.evaluation.shape[:3])
    panels.draw(model, NOISE, evaluation, tmp_path, options, contexts=contexts)
    assert (tmp_path / "completions.png").is_file() and not (tmp_path / "reliability.png").exists()


def test_images_below_the_window_have_no_ssim():
    small = Dataset(name="small", train=NOISE.train[:, :8, :8], evaluation=NOISE.evaluation[:, :8, :8])
    config = make_config(**{"evaluate.classical_images": 0, "evaluate.halves": False})
    evaluation, values = evaluate.evaluate(helpers.make_model(config, (8, 8, 1)), small)
    assert evaluation["classical"] == []
    assert "ssim" not in evaluation["cells"][0]
    assert "random 0.2 ssim" not in values


def test_options_are_those_of_the_model_unless_others_are_given(untrained):
    options = dataclasses.replace(Options.of(untrained.config), fractions=(0.6,), halves=False, num_images=4)
    evaluation, values = evaluate.evaluate(untrained, NOISE, options=options)
    assert [(cell["fraction"], cell["num_images"]) for cell in evaluation["cells"]] == [(0.6, 4)]
    whole, expected = evaluate.evaluate(untrained, NOISE)
    assert [(cell["mask"], cell["fraction"]) for cell in whole["cells"]] == CELLS
    np.testing.assert_allclose(values["random 0.6 psnr"], expected["random 0.6 psnr"][:4], rtol=1e-5)


COLOURS = tiny.noise(shape=(16, 16, 3))
HOLES = {"mask.kind": "inpainting", "evaluate.fractions": (), "evaluate.halves": False}
HOLES |= {"evaluate.classical_images": 2, "evaluate.num_images": 6}


@pytest.fixture(scope="module")
def holes(tmp_path_factory):
    """A model, what was measured over holes, and the folder of its files."""
    model = helpers.make_model(make_config(**HOLES), (16, 16, 3))
    folder = tmp_path_factory.mktemp("holes")
    report.make(model, COLOURS, folder)
    return model, report.read(folder), report.read_values(folder), folder


def test_values_in_holes_are_those_of_the_pictures(holes):
    model, evaluation, values, folder = holes
    options, image = Options.of(model.config), COLOURS.evaluation[:6] / np.float32(255)
    contexts = load_contexts(options, (6, 16, 16), folder=folder)
    for cell, (name, context) in zip(evaluation["cells"], contexts.items(), strict=True):
        assert cell["mask"] == name and cell["sha256"] == context.sha256
        answer = evaluate.complete_images(model, image, context.masks, options)
        np.testing.assert_array_equal(np.where(context.masks, answer, 0), np.where(context.masks, image, 0))
        for metric, expected in inpainting.measure(answer, image, context.masks).items():
            found = values[f"{name} {metric}"]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
            finite = found[np.isfinite(found)]
            if finite.size:
                assert cell[metric] == pytest.approx(finite.mean())
                low, high = cell[f"{metric}_interval"]
                assert low <= cell[metric] <= high


class Noisy(ImageModel):
    """Answers with grey and noise: samples that differ."""

    def __call__(self, image, mask, *, train, num_samples=1, target="all"):
        zeros = jnp.zeros(len(image))
        return Terms(reconstruction=zeros, kl=zeros, prediction=image)

    def complete(self, image, mask, *, num_samples):
        noise = jax.random.normal(self.make_rng("sample"), (num_samples, *image.shape))
        return Completion(samples=0.5 + 0.1 * noise)


def test_a_prediction_is_the_mean_of_the_samples(untrained):
    model = dataclasses.replace(untrained, module=Noisy(channels=1), variables={})
    options, images = Options.of(make_config(**HOLES | {"evaluate.batch_size": 3})), NOISE.evaluation[:3]
    mask = make_context("centre", images.shape[:3], seed=0).masks
    found = evaluate.evaluate_images(model, images, mask, options, is_hole=True)
    answer = evaluate.complete_images(model, images / np.float32(255), mask, options)
    key, given = jax.random.fold_in(jax.random.key(0), 1), images / np.float32(255)
    samples = predict.complete_batch(key, model.module, {}, given, mask, num_samples=4).samples
    for pictures, is_evaluated in ((samples.mean(axis=0), True), (samples[0], False)):
        expected = inpainting.measure(jnp.clip(pictures, 0, 1), given, mask)["hole_psnr"]
        assert np.allclose(found["hole_psnr"], expected, rtol=1e-4) == is_evaluated
        assert np.allclose(answer, np.where(mask, given, pictures), atol=1e-6) == is_evaluated


def test_holes_have_what_other_contexts_have_and_all_methods_in_the_tables(holes):
    model, evaluation, _, folder = holes
    for cell in evaluation["cells"]:
        assert {"psnr", "psnr_completed", "log_prob", "kl", "crps", "coverage"} <= set(cell)
        assert cell["psnr_unobserved"] == pytest.approx(cell["hole_psnr"], abs=0.05)  # not rounded to 8 bits
    text = (folder / "evaluation.md").read_text()
    row = evaluation["cells"][0]
    low, high = row["hole_psnr_interval"]
    assert f"| {row['hole_psnr']:.2f} ({low:.2f}-{high:.2f}) |" in text and inpainting.SSIM_CONVENTION in text
    classical = evaluation["classical"]
    assert {row["mask"] for row in classical} == {"centre", "box", "strokes"}
    for row in classical:
        assert f"{tables.label(row)}, {row['method']} |" in text
    found = tables.explain_holes(["telea"])
    assert "OpenCV" in found and "telea" in found and "OpenCV" not in tables.explain_holes([])
    validate = validation.make_validation(
        model.config, dataclasses.replace(COLOURS, evaluation=COLOURS.evaluation[:6])
    )
    run = types.SimpleNamespace(model=model, step=types.SimpleNamespace(held_out_loss=None))
    assert validate(run)["val/psnr_unobserved"] == pytest.approx(evaluation["cells"][0]["psnr_unobserved"])


def test_a_model_is_blended_where_its_paper_does_so(monkeypatch):
    monkeypatch.setattr(evaluate.interpolation, "hole_methods", lambda: (("mean",), ()))
    monkeypatch.setattr(evaluate.opencv, "blend", lambda prediction, image, mask: np.where(mask, image, 0.25))
    config = make_config(**HOLES | {"evaluate.num_images": 2})
    model = dataclasses.replace(helpers.make_model(config, (16, 16, 3)), module=Blended(channels=3))
    evaluation, values = evaluate.evaluate(model, COLOURS)
    assert [row["mask"] for row in evaluation["blended"]] == ["centre", "box", "strokes"]
    expected = -10 * np.log10(np.square(COLOURS.evaluation[:2, 4:12, 4:12] / 255 - 0.25).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(values["centre hole_psnr by blended"], expected, rtol=1e-2)
    assert "blended" in "\n".join(report.list_tables(evaluation)[-1].markdown())


class Blended(MeanColour):
    """Says that it is finished so."""

    is_finished_by_blending = True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images: images / np.float32(255), "float32"),
        (lambda images: images.astype(np.uint16), "uint16"),
        (lambda images: np.full(images.shape, np.nan), "float64"),
    ],
)
def test_images_that_are_no_bytes_are_one_sentence(untrained, tmp_path, change, words):
    for call in (
        lambda dataset: evaluate.evaluate(untrained, dataset),
        lambda dataset: training.run(make_config(), tmp_path, dataset),
    ):
        for part in ("train", "evaluation"):
            with pytest.raises(UserError, match=f"{part} images of noise are {words} .*uint8") as caught:
                call(dataclasses.replace(NOISE, **{part: change(getattr(NOISE, part))}))
            assert "\n" not in str(caught.value)
