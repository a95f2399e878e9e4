import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules import kernel_interpolation

B, H, W, C = 3, 6, 9, 2
SCALES = (0.1, 0.5, 2.0, 50.0)  # at 0.1 the bound of MAX_DECAY is reached three pixels away


def plain_loop(image, mask, length_scales):
    """The equation in float64, one pixel and one kernel at a time."""
    b, h, w, c = image.shape
    values = np.zeros((b, h, w, len(length_scales), c))
    confidences = np.zeros((b, h, w, len(length_scales)))
    for n, i, j, k in np.ndindex(b, h, w, len(length_scales)):
        total, weighted = 0.0, np.zeros(c)
        for row, column in np.argwhere(mask[n, :, :, 0]):
            decay = [
                min(abs(d) / length_scales[k], kernel_interpolation.MAX_DECAY) for d in (row - i, column - j)
            ]
            weight = np.exp(-sum(decay))
            total += weight
            weighted += weight * image[n, row, column].astype(np.float64)
        values[n, i, j, k] = weighted / total if total > 0 else 0.0
        confidences[n, i, j, k] = np.log(total + kernel_interpolation.CONFIDENCE_FLOOR)
    return values, confidences


def one_far_pixel():
    mask = np.zeros((B, H, W, 1), bool)
    mask[:, -1, -1] = True
    return mask


def mixed_batch():
    return np.stack([np.zeros((H, W, 1), bool), one_far_pixel()[0], np.ones((H, W, 1), bool)])


MASKS = {
    "random": lambda: np.asarray(jax.random.bernoulli(jax.random.key(9), 0.3, (B, H, W, 1))),
    "half": lambda: np.broadcast_to(np.arange(W)[None, None, :, None] < W // 2, (B, H, W, 1)),
    "one_far_pixel": one_far_pixel,
    "empty": lambda: np.zeros((B, H, W, 1), bool),
    "full": lambda: np.ones((B, H, W, 1), bool),
    "empty_far_and_full": mixed_batch,
}


@pytest.fixture(scope="module")
def image():
    return np.asarray(jax.random.uniform(jax.random.key(0), (B, H, W, C)))


@pytest.mark.parametrize("kind", MASKS)
def test_equals_a_plain_loop(kind, image):
    mask = MASKS[kind]()
    values, confidences = jax.jit(kernel_interpolation.interpolate)(image, mask, jnp.array(SCALES))
    chex.assert_shape([values, confidences], [(B, H, W, len(SCALES), C), (B, H, W, len(SCALES))])
    expected = plain_loop(image, mask, SCALES)
    np.testing.assert_allclose(values, expected[0], atol=2e-5)
    np.testing.assert_allclose(confidences, expected[1], atol=2e-5)


@pytest.mark.parametrize("kind", MASKS)
def test_gradients_are_finite_and_equal_differences(kind, image):
    mask = MASKS[kind]()
    cotangent = np.asarray(jax.random.normal(jax.random.key(1), (B, H, W, len(SCALES), C)))

    def loss(log_scale):
        values, confidences = kernel_interpolation.interpolate(image, mask, jnp.exp(log_scale))
        return jnp.sum(values * cotangent) + jnp.sum(confidences)

    log_scale = np.log(np.array(SCALES))
    gradient = jax.jit(jax.grad(loss))(log_scale.astype(np.float32))
    chex.assert_tree_all_finite(gradient)

    def plain(log_scale):
        values, confidences = plain_loop(image, mask, np.exp(log_scale))
        return np.sum(values * cotangent) + np.sum(confidences)

    # A kink lies where the bound begins, so the sharpest kernel is left out.
    for k in range(1, len(SCALES)):
        step = 1e-5 * np.eye(len(SCALES))[k]
        difference = (plain(log_scale + step) - plain(log_scale - step)) / 2e-5
        np.testing.assert_allclose(gradient[k], difference, rtol=2e-3, atol=2e-3)


def test_an_observed_pixel_far_away_is_found_at_any_distance():
    mask = jnp.zeros((1, 1, 300, 1), bool).at[0, 0, -1].set(True)
    image = jnp.full((1, 1, 300, 1), 0.7)
    values, _ = kernel_interpolation.interpolate(image, mask, jnp.array([0.05, 1.0]))
    np.testing.assert_allclose(values, 0.7, rtol=1e-6)


def test_unobserved_values_are_never_read(image):
    mask = MASKS["random"]()
    poisoned = np.where(mask, image, np.nan)
    interpolate = jax.jit(kernel_interpolation.interpolate)
    chex.assert_trees_all_equal(
        interpolate(poisoned, mask, jnp.array(SCALES)), interpolate(image, mask, jnp.array(SCALES))
    )


def test_module_learns_one_scale_per_kernel(image):
    mask = MASKS["random"]()
    module = kernel_interpolation.KernelInterpolation((0.5, 3.0))
    out, variables = jax.jit(module.init_with_output)(jax.random.key(0), image, mask)
    np.testing.assert_allclose(variables["params"]["log_length_scale"], np.log([0.5, 3.0]), rtol=1e-6)
    expected = kernel_interpolation.interpolate(image, mask, jnp.array([0.5, 3.0]))
    chex.assert_trees_all_close(out, expected, atol=1e-6)


def test_a_mask_of_numbers_is_refused(image):
    with pytest.raises(AssertionError):
        kernel_interpolation.interpolate(image, jnp.ones((B, H, W, 1)), jnp.array(SCALES))
