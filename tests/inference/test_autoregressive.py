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


def density(error, kind):
    full = FACTOR.astype(np.float64) @ FACTOR.T
    full = full if kind == "cholesky" else np.diag(np.diag(full))
    return -0.5 * (error @ np.linalg.solve(full, error) + np.linalg.slogdet(2 * np.pi * full)[1])


def test_ranks_number_the_unobserved_pixels_in_one_order(data):
    _, mask = data
    rank = np.asarray(autoregressive.rank_unobserved(jax.random.key(0), mask))
    for image in range(B):
        hidden = ~np.asarray(mask[image])
        np.testing.assert_array_equal(np.sort(rank[image][hidden]), np.arange(hidden.sum()))
        assert np.all(rank[image][~hidden] == -1)
    both = np.asarray(~mask).all(axis=0)
    order = [np.argsort(rank[image][both]) for image in range(B)]
    np.testing.assert_array_equal(*order)


def expect_density(image, mask, targets, key, num_rounds, kind):
    """The joint density of the targets, pixel by pixel in the order of the key; (B,)."""
    rank = np.asarray(autoregressive.rank_unobserved(jax.random.split(key)[0], ~targets))[..., 0]
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


@pytest.mark.parametrize("num_rounds", [1, 2, 5, 40])  # 40: more rounds than unobserved pixels
@pytest.mark.parametrize("kind", ["cholesky", "scale"])
def test_joint_density_is_the_product_over_the_order(data, num_rounds, kind):
    image, mask = data
    key = jax.random.key(3)
    (actual,) = autoregressive.log_probs_by_rounds(
        key, ContextMean(kind=kind), {}, image, mask, rounds=num_rounds
    )
    expected = expect_density(image, mask, ~mask, key, num_rounds, kind)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_some_targets_leave_the_other_pixels_unobserved_and_a_floor_widens(data):
    image, mask = data
    key = jax.random.key(3)
    targets = ~mask & (jnp.arange(W)[None, None, :, None] < 3)
    low, high = autoregressive.log_probs_by_rounds(
        key, ContextMean(kind="scale"), {}, image, mask, rounds=3, targets=targets, floors=(0.0, 0.5)
    )
    expected = expect_density(image, mask, targets, key, 3, "scale")
    np.testing.assert_allclose(low, expected, rtol=1e-4)
    count = np.asarray(targets).sum(axis=(1, 2, 3)) * C
    cap = -0.5 * np.log(2 * np.pi * 0.5**2) * count  # errors of 0.2 and less, a deviation of 0.5
    np.testing.assert_array_less(high, cap)
    np.testing.assert_allclose(high, cap, atol=0.1 * count.max())


def test_without_noise_every_round_takes_the_mean(data):
    image, mask = data
    out = autoregressive.complete_by_rounds(
        jax.random.key(3), ContextMean(), {}, image, mask, num_samples=2, rounds=4, temperature=0.0
    )
    chex.assert_shape(out, (2, B, H, W, C))
    mean = jnp.sum(image * mask, axis=(1, 2), keepdims=True) / jnp.sum(mask, axis=(1, 2), keepdims=True)
    expected = jnp.where(mask, image, mean)
    np.testing.assert_allclose(out, jnp.broadcast_to(expected, out.shape), atol=1e-6)


def test_the_models_own_temperature_multiplies_the_callers(data):
    image, mask = data
    draw = lambda own, asked: autoregressive.complete_by_rounds(  # noqa: E731
        jax.random.key(3),
        ContextMean(temperature=own),
        {},
        image,
        mask,
        num_samples=2,
        rounds=4,
        temperature=asked,
    )
    np.testing.assert_allclose(draw(0.5, 1.5), draw(1.0, 0.75), atol=1e-6)
    assert np.abs(draw(0.5, 1.0) - draw(1.0, 1.0)).max() > 0.01


def test_one_round_is_the_direct_prediction(data):
    image, mask = data
    one, none = (
        autoregressive.complete_by_rounds(
            jax.random.key(3),
            ContextMean(),
            {},
            image,
            mask,
            num_samples=1,
            rounds=1,
            temperature=t,
        )
        for t in (1.0, 0.0)
    )
    np.testing.assert_array_equal(one, none)


def test_samples_have_the_covariance_of_the_model():
    image = jnp.full((1, 32, 32, C), 0.5)
    mask = jnp.zeros((1, 32, 32, 1), bool).at[0, 0, 0].set(True)
    out = autoregressive.complete_by_rounds(
        jax.random.key(3), ContextMean(), {}, image, mask, num_samples=8, rounds=2
    )
    drawn = np.asarray(out[:, 0]).reshape(8, -1, C)
    # Of two rounds the first draws the share 0.5^1.5 around the one observed pixel, the last takes one mean.
    first = np.concatenate([x[x[:, 0] != np.median(x[:, 0])] for x in drawn])
    assert len(first) == 8 * (round(1023 * 0.5**1.5) + 1)  # and the observed pixel
    covariance = np.cov(first.T)
    np.testing.assert_allclose(covariance, FACTOR @ FACTOR.T, atol=2e-4)
    assert np.std(out, axis=0).max() > 0.01


def test_each_round_draws_noise_of_its_own():
    image, mask = jnp.full((1, 32, 32, C), 0.5), jnp.zeros((1, 32, 32, 1), bool).at[0, 0, 0].set(True)
    key = jax.random.key(3)
    out = autoregressive.complete_by_rounds(
        key, ContextMean(kind="scale"), {}, image, mask, num_samples=1, rounds=3
    )
    rank = autoregressive.rank_unobserved(jax.random.split(jax.random.split(key)[0], 1)[0], mask)[0, ..., 0]
    ends = [round(1023 * autoregressive.share_known(r, 3)) for r in range(2)]
    first = (rank >= 0) & (rank < ends[0])
    second = (rank >= ends[0]) & (rank < ends[1])
    # Each round draws its own noise, not that of the other.
    noise_keys = [jax.random.split(jax.random.fold_in(jax.random.split(key)[1], r))[0] for r in range(2)]
    noise = [np.asarray(jax.random.normal(k, (1, 1, 32, 32, C)))[0, 0] for k in noise_keys]
    drawn = np.asarray(out[0, 0]) - 0.5
    for pixels, own, other in ((first, noise[0], noise[1]), (second, noise[1], noise[0])):
        values = drawn[pixels].ravel()
        assert np.corrcoef(values, own[pixels].ravel())[0, 1] > 0.9
        assert abs(np.corrcoef(values, other[pixels].ravel())[0, 1]) < 0.3


def test_of_a_t_the_noise_is_that_of_its_core():
    noise, scale = np.ones((2, 3), np.float32), np.full((2, 3), 0.1, np.float32)
    color = lambda **answer: autoregressive.color_noise(noise, Completion(samples=noise, **answer))  # noqa: E731
    np.testing.assert_allclose(color(scale=scale), 0.1)
    # The Normal with the quartiles of a t of 4 degrees of freedom and unit variance.
    core = stats.t.ppf(0.75, 4) * np.sqrt(2 / 4) / stats.norm.ppf(0.75)
    found = color(scale=scale, distribution="student_t")
    np.testing.assert_allclose(found, 0.1 * core, rtol=1e-3)
    factor = np.broadcast_to(FACTOR, (2, 3, 3))
    found = color(scale=scale, cholesky=factor, distribution="student_t")
    np.testing.assert_allclose(found, np.tile(core * FACTOR.sum(axis=1), (2, 1)), rtol=1e-3)


def test_an_answer_depends_on_its_image_alone(data):
    image, mask = data
    complete = lambda x, m: autoregressive.complete_by_rounds(  # noqa: E731
        jax.random.key(3), ContextMean(), {}, x, m, num_samples=3, rounds=4
    )
    together, alone = complete(image, mask), complete(image[1:], mask[1:])
    np.testing.assert_allclose(together[:, 1:], alone, atol=1e-6)
    np.testing.assert_array_equal(
        jnp.where(mask, together, 0), jnp.broadcast_to(jnp.where(mask, image, 0), together.shape)
    )
    poisoned = jnp.where(mask, image, jnp.nan)
    np.testing.assert_array_equal(complete(poisoned, mask), together)


def test_a_model_without_a_scale_and_no_rounds_are_refused(data):
    image, mask = data
    with pytest.raises(UserError, match="scale"):
        autoregressive.log_probs_by_rounds(
            jax.random.key(0), ContextMean(kind="none"), {}, image, mask, rounds=2
        )
    with pytest.raises(UserError, match="at least 1"):
        autoregressive.complete_by_rounds(
            jax.random.key(0), ContextMean(), {}, image, mask, num_samples=1, rounds=0
        )
