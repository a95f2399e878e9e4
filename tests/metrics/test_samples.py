"""Energy score and gradient energy against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax import metrics
from ifanp_jax.metrics import calibration

SHAPE = (2, 5, 4, 3)


def make_inputs(num_samples, *, shape=SHAPE):
    """Samples (S, B, H, W, C), the truth, and which of its pixels count."""
    generator = np.random.default_rng(0)
    samples = generator.random((num_samples, *shape), np.float32)
    return samples, generator.random(shape, np.float32), generator.random((*shape[:3], 1)) < 0.5


@pytest.mark.parametrize("num_samples", [1, 4])
def test_energy_score_is_its_equation(num_samples):
    samples, image, targets = make_inputs(num_samples)

    def distance(x, y, b):
        return np.sqrt(np.square(x[b] - y[b], dtype=np.float64)[targets[b, ..., 0]].mean())

    spoiled = np.where(targets, image, np.float32(np.nan))
    result = metrics.energy_score(samples, spoiled, targets)
    assert result.shape == SHAPE[:1] and result.dtype == jnp.float32
    for b in range(len(image)):
        others = [distance(x, y, b) for i, x in enumerate(samples) for j, y in enumerate(samples) if i != j]
        expected = np.mean([distance(x, image, b) for x in samples]) - np.mean(others or [0]) / 2
        np.testing.assert_allclose(result[b], expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(metrics.energy_score)(samples, spoiled, targets), result, rtol=1e-5)


def test_energy_score_of_one_value_is_the_crps_of_its_samples():
    samples, image, targets = make_inputs(3, shape=(2, 1, 1, 1))
    everywhere = np.ones_like(targets)
    crps = calibration.crps(samples, np.full_like(samples, 1e-6), image, everywhere)
    # The CRPS takes the samples for the whole distribution: S^2 pairs, where ours are the S (S - 1) others.
    between = np.abs(samples[:, None] - samples[None]).sum(axis=(0, 1)).reshape(2)
    expected = crps + between / 18 - between / 12
    np.testing.assert_allclose(metrics.energy_score(samples, image, everywhere), expected, rtol=1e-4)


def test_energy_score_prefers_samples_whose_values_fit_each_other():
    noise = np.random.default_rng(0).normal(scale=0.1, size=(201, 4, 8, 8, 1)).astype(np.float32)
    together = 0.5 + np.broadcast_to(noise[:, :, :1, :1], noise.shape)
    samples, image = together[:-1], together[-1]
    everywhere = np.ones((4, 8, 8, 1), bool)
    right = metrics.energy_score(samples, image, everywhere).mean()
    assert right < metrics.energy_score(0.5 + noise[:-1], image, everywhere).mean() - 0.005


def test_gradient_energy_is_counted_by_hand():
    _, image, targets = make_inputs(1)
    result = metrics.gradient_energy(image, targets)
    assert result.shape == SHAPE[:1] and result.dtype == jnp.float32
    b, h, w, _ = SHAPE
    pairs = [((i, j), (i + 1, j)) for i in range(h - 1) for j in range(w)]
    pairs += [((i, j), (i, j + 1)) for i in range(h) for j in range(w - 1)]
    for one in range(b):
        found = [
            np.square(image[one][p] - image[one][q]) for p, q in pairs if targets[one][p] or targets[one][q]
        ]
        np.testing.assert_allclose(result[one], np.mean(found), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(metrics.gradient_energy)(image, targets), result, rtol=1e-5)


def test_an_image_without_target_pixels_scores_zero():
    samples, image, targets = make_inputs(3)
    targets[1] = False
    for score in (metrics.energy_score(samples, image, targets), metrics.gradient_energy(image, targets)):
        assert score[0] > 0 and score[1] == 0
    one = np.ones((1, 1, 1, 1), np.float32)
    assert metrics.gradient_energy(one, one > 0) == 0


@pytest.mark.parametrize("broken", ["samples", "image", "targets", "numbers"])
def test_wrong_shapes_and_dtypes_are_refused(broken):
    samples, image, targets = make_inputs(3)
    match broken:
        case "samples":
            samples = samples[:, :1]
        case "image":
            image = image[0]
        case "targets":
            targets = targets[..., 0]
        case "numbers":
            targets = targets.astype(np.float32)
    with pytest.raises(AssertionError):
        metrics.energy_score(samples, image, targets)
    if broken != "samples":
        with pytest.raises(AssertionError):
            metrics.gradient_energy(image, targets)
