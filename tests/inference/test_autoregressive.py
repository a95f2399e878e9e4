import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ifanp_jax.errors import UserError
from ifanp_jax.inference import autoregressive
from ifanp_jax.models.base import Completion, ImageModel

B, H, W, C = 2, 4, 5, 3
FACTOR = np.array([[0.05, 0, 0], [0.04, 0.02, 0], [0.04, 0.01, 0.02]], np.float32)
KEY = jax.random.key(3)


class ContextMean(ImageModel):
    """Answers the mean of the context at every pixel, with one constant covariance."""

    channels: int = C
    kind: str = "cholesky"
    temperature: float = 1.0

    def complete(self, image, mask, *, num_samples):
        chex.assert_shape(image, (*mask.shape[:3], C))
        count = jnp.maximum(mask.sum(axis=(1, 2), keepdims=True), 1)
        mean = jnp.where(mask, image, 0).sum(axis=(1, 2), keepdims=True) / count
        samples = jnp.broadcast_to(mean, (num_samples, *image.shape))
        scale = jnp.broadcast_to(jnp.sqrt(jnp.sum(FACTOR**2, axis=-1)), samples.shape)
        factor = jnp.broadcast_to(FACTOR, (*samples.shape, C))
        return Completion(
            samples=samples,
            scale=None if self.kind == "none" else scale,
            cholesky=factor if self.kind == "cholesky" else None,
        )


@pytest.fixture(scope="module")
def data():
    image = jax.random.uniform(jax.random.key(0), (B, H, W, C), minval=0.4, maxval=0.6)
    return image, jax.random.bernoulli(jax.random.key(1), 0.3, (B, H, W, 1))


def complete(image, mask, *, num_samples=2, rounds=4, temperature=1.0, **fields):
    options = {"num_samples": num_samples, "rounds": rounds, "temperature": temperature}
    return autoregressive.complete_by_rounds(KEY, ContextMean(**fields), {}, image, mask, **options)


def density(error, kind):
    full = FACTOR.astype(np.float64) @ FACTOR.T
    full = full if kind == "cholesky" else np.diag(np.diag(full))
    return -0.5 * (error @ np.linalg.solve(full, error) + np.linalg.slogdet(2 * np.pi * full)[1])


def test_ranks_number_the_unobserved_pixels_in_one_order(data):
    _, mask = data
    rank, hidden = np.asarray(autoregressive.rank_unobserved(KEY, mask)), ~np.asarray(mask)
    for ranks, missing in zip(rank, hidden, strict=True):
        np.testing.assert_array_equal(np.sort(ranks[missing]), np.arange(missing.sum()))
        assert np.all(ranks[~missing] == -1)
    np.testing.assert_array_equal(*(np.argsort(ranks[hidden.all(axis=0)]) for ranks in rank))


def expect_density(image, mask, targets, num_rounds, kind):
    """The joint density of the targets, pixel by pixel in the order of the key; (B,)."""
    rank = np.asarray(autoregressive.rank_unobserved(jax.random.split(KEY)[0], ~targets))[..., 0]
    expected = np.zeros(B)
    for b in range(B):
        values, known = np.asarray(image[b], np.float64), np.asarray(mask[b, :, :, 0])
        for r in range(num_rounds):
            count = round((rank[b] >= 0).sum() * ((r + 1) / num_rounds) ** 1.5)
            reached = known | ((rank[b] >= 0) & (rank[b] < count))
            mean = values[known].mean(axis=0)
            expected[b] += sum(density(values[i, j] - mean, kind) for i, j in np.argwhere(reached & ~known))
            known = reached
        np.testing.assert_array_equal(known, np.asarray(mask | targets)[b, :, :, 0])
    return expected


@pytest.mark.parametrize("kind", ["cholesky", "scale"])
def test_joint_density_is_the_product_over_the_order(data, kind):
    image, mask = data
    for rounds in (1, 2, 5, 40):  # 40: more rounds than unobserved pixels
        found = autoregressive.log_probs_by_rounds(
            KEY, ContextMean(kind=kind), {}, image, mask, rounds=rounds
        )
        expected = expect_density(image, mask, ~mask, rounds, kind)
        np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_some_targets_leave_the_other_pixels_unobserved_and_a_floor_widens(data):
    image, mask = data
    targets = ~mask & (jnp.arange(W)[None, None, :, None] < 3)
    options = {"rounds": 3, "targets": targets, "floors": (0.0, 0.5)}
    low, high = autoregressive.log_probs_by_rounds(KEY, ContextMean(kind="scale"), {}, image, mask, **options)
    np.testing.assert_allclose(low, expect_density(image, mask, targets, 3, "scale"), rtol=1e-4)
    count = np.asarray(targets).sum(axis=(1, 2, 3)) * C
    cap = -0.5 * np.log(2 * np.pi * 0.5**2) * count  # errors of 0.2 and less, a deviation of 0.5
    np.testing.assert_array_less(high, cap)
    np.testing.assert_allclose(high, cap, atol=0.1 * count.max())


def test_noise_has_the_temperature_and_the_last_round_none(data):
    image, mask = data
    cold = complete(image, mask, temperature=0.0)
    chex.assert_shape(cold, (2, B, H, W, C))
    mean = jnp.sum(image * mask, axis=(1, 2), keepdims=True) / jnp.sum(mask, axis=(1, 2), keepdims=True)
    expected = jnp.broadcast_to(jnp.where(mask, image, mean), cold.shape)
    np.testing.assert_allclose(cold, expected, atol=1e-6)
    one = complete(image, mask, rounds=1)
    np.testing.assert_array_equal(one, complete(image, mask, rounds=1, temperature=0.0))
    np.testing.assert_allclose(one, expected, atol=1e-6)
    # The model's own temperature multiplies the caller's.
    own = complete(image, mask, temperature=1.5, kind="scale")
    halved = ContextMean(kind="scale", temperature=0.5)
    halved = autoregressive.complete_by_rounds(
        KEY, halved, {}, image, mask, num_samples=2, rounds=4, temperature=3.0
    )
    np.testing.assert_allclose(own, halved, atol=1e-6)
    assert np.abs(own - complete(image, mask, kind="scale")).max() > 0.01


def test_samples_have_the_covariance_of_the_model_and_each_round_draws_noise_of_its_own():
    image, mask = jnp.full((1, 32, 32, C), 0.5), jnp.zeros((1, 32, 32, 1), bool).at[0, 0, 0].set(True)
    drawn = np.asarray(complete(image, mask, num_samples=8, rounds=3)[:, 0]) - 0.5
    order_key, round_key = jax.random.split(KEY)
    rank = np.stack(
        [autoregressive.rank_unobserved(k, mask)[0, ..., 0] for k in jax.random.split(order_key, 8)]
    )
    ends = [round(1023 * (r / 3) ** 1.5) for r in range(4)]
    first, second, last = ((rank >= low) & (rank < high) for low, high in itertools.pairwise(ends))
    np.testing.assert_allclose(np.cov(drawn[first].T), FACTOR @ FACTOR.T, atol=3e-4)
    assert np.ptp(drawn[0][last[0]], axis=0).max() == 0  # one mean
    # Each round draws its own noise, not that of the other.
    keys = [jax.random.split(jax.random.fold_in(round_key, r))[0] for r in range(2)]
    noise = [np.asarray(jax.random.normal(k, (1, 8, 32, 32, C)))[0] @ FACTOR.T for k in keys]
    for pixels, own, other in ((first, *noise), (second, *noise[::-1])):
        assert np.corrcoef(drawn[pixels].ravel(), own[pixels].ravel())[0, 1] > 0.9
        assert abs(np.corrcoef(drawn[pixels].ravel(), other[pixels].ravel())[0, 1]) < 0.1


def test_of_a_t_the_noise_is_that_of_its_core():
    noise, scale = np.ones((2, 3), np.float32), np.full((2, 3), 0.1, np.float32)
    color = lambda **answer: autoregressive.color_noise(noise, Completion(samples=noise, **answer))  # noqa: E731
    np.testing.assert_allclose(color(scale=scale), 0.1)
    # The Normal with the quartiles of a t of 4 degrees of freedom and unit variance.
    core = stats.t.ppf(0.75, 4) * np.sqrt(2 / 4) / stats.norm.ppf(0.75)
    np.testing.assert_allclose(color(scale=scale, distribution="student_t"), 0.1 * core, rtol=1e-3)
    factor = np.broadcast_to(FACTOR, (2, 3, 3))
    found = color(scale=scale, cholesky=factor, distribution="student_t")
    np.testing.assert_allclose(found, np.tile(core * FACTOR.sum(axis=1), (2, 1)), rtol=1e-3)


def test_an_answer_depends_on_its_image_alone(data):
    image, mask = data
    together, alone = complete(image, mask), complete(image[1:], mask[1:])
    np.testing.assert_allclose(together[:, 1:], alone, atol=1e-6)
    kept = jnp.broadcast_to(jnp.where(mask, image, 0), together.shape)
    np.testing.assert_array_equal(jnp.where(mask, together, 0), kept)
    np.testing.assert_array_equal(complete(jnp.where(mask, image, jnp.nan), mask), together)


def test_a_model_without_a_scale_and_no_rounds_are_refused(data):
    with pytest.raises(UserError, match="scale"):
        autoregressive.log_probs_by_rounds(KEY, ContextMean(kind="none"), {}, *data, rounds=2)
    with pytest.raises(UserError, match="at least 1"):
        complete(*data, rounds=0)
