import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from ifanp_jax.inpainters import critics, holes, losses

B, H, W, C = 3, 6, 8, 2
REAL, FAKE = np.array([-2.0, 0.0, 3.0]), np.array([1.0, 0.0, -0.5])


def softplus(x):
    return np.log1p(np.exp(x))


CRITIC = {
    "wgan_gp": FAKE - REAL,
    "dcgan": softplus(-REAL) + softplus(FAKE),
    "lsgan": (REAL - 1) ** 2 + FAKE**2,
    "hinge": np.maximum(1 - REAL, 0) + np.maximum(1 + FAKE, 0),
    "none": np.zeros(3),
}
GENERATOR = {
    "wgan_gp": -FAKE,
    "dcgan": softplus(-FAKE),
    "lsgan": (FAKE - 1) ** 2,
    "hinge": -FAKE,
    "none": np.zeros(3),
}


@pytest.mark.parametrize("kind", losses.KINDS)
def test_adversarial_losses(kind):
    real, fake = jnp.asarray(REAL, jnp.float32), jnp.asarray(FAKE, jnp.float32)
    np.testing.assert_allclose(losses.critic_loss(kind, real, fake), CRITIC[kind], rtol=1e-6)
    np.testing.assert_allclose(losses.generator_loss(kind, fake), GENERATOR[kind], rtol=1e-6)


@pytest.mark.parametrize("kind", losses.KINDS)
def test_large_scores_stay_finite(kind):
    scores = jnp.array([-1e4, 1e4])
    loss = jax.value_and_grad(lambda x: jnp.sum(losses.critic_loss(kind, x, -x)))
    chex.assert_tree_all_finite(loss(scores))
    chex.assert_tree_all_finite(losses.generator_loss(kind, scores))


def test_an_unknown_kind_raises():
    with pytest.raises(ValueError, match="wgan_gp"):
        losses.generator_loss("wgan", jnp.zeros(2))
    with pytest.raises(ValueError, match="wgan_gp"):
        losses.critic_loss("wgan", jnp.zeros(2), jnp.zeros(2))


def images():
    return jax.random.uniform(jax.random.key(0), (2, B, H, W, C), minval=-1.0)


def draw_mask():
    """Random pixels, a full and an empty mask."""
    mask = jax.random.bernoulli(jax.random.key(1), 0.5, (B, H, W, 1))
    return mask.at[1].set(True).at[2].set(False)


def penalty(weights, mask):
    real, fake = images()

    def critic(x):
        return jnp.sum(x * weights[None], axis=(1, 2, 3)) + 5

    return losses.gradient_penalty_loss(jax.random.key(2), critic, real, fake, mask)


def test_penalty_of_a_linear_critic():
    weights = jax.random.normal(jax.random.key(3), (H, W, C))
    mask = draw_mask()
    hole = np.asarray(~mask)
    length = np.sqrt(np.sum((hole * np.asarray(weights)[None]) ** 2, axis=(1, 2, 3)))
    expected = np.where(hole.any(axis=(1, 2, 3)), 10 * (length - 1) ** 2, 0)
    np.testing.assert_allclose(jax.jit(penalty)(weights, mask), expected, rtol=1e-5)


def test_penalty_has_a_finite_gradient_at_a_flat_critic():
    value, gradient = jax.jit(jax.value_and_grad(lambda w, m: penalty(w, m).sum()))(
        jnp.zeros((H, W, C)), draw_mask()
    )
    np.testing.assert_allclose(value, 20, rtol=1e-5)  # two images have a hole
    chex.assert_tree_all_finite(gradient)


def test_penalty_is_taken_between_the_images():
    # D = |x|^2 / 2 has gradient x^, here 1 + 2t everywhere: t can be read off the loss.
    real, fake = jnp.ones((B, H, W, C)), jnp.full((B, H, W, C), 3.0)
    mask = jnp.zeros((B, H, W, 1), bool)
    loss = losses.gradient_penalty_loss(
        jax.random.key(4), lambda x: jnp.sum(jnp.square(x), axis=(1, 2, 3)) / 2, real, fake, mask
    )
    length = 1 + np.sqrt(np.asarray(loss) / 10)
    t = (length / np.sqrt(H * W * C) - 1) / 2
    assert ((t >= 0) & (t <= 1)).all() and len(set(t.tolist())) == B


def test_penalty_of_a_convolutional_critic_of_windows_equals_finite_differences():
    real, fake = images()
    mask, start = draw_mask(), jnp.array([[0, 1], [2, 3], [1, 4]])
    real, fake, mask = (holes.cut_window(x, start) for x in (real, fake, mask))
    critic = critics.ConvCritic((4, 4))
    variables = jax.jit(lambda x: critic.init(jax.random.key(7), x, train=True))(real)

    def loss(variables):
        return losses.gradient_penalty_loss(
            jax.random.key(8), lambda x: critic.apply(variables, x, train=True), real, fake, mask
        ).sum()

    loss_and_gradient = jax.jit(jax.value_and_grad(loss))
    _, gradient = loss_and_gradient(variables)
    chex.assert_tree_all_finite(gradient)
    length = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    step = 1e-3 / length  # along the gradient itself, whose slope is its length
    up, down = (
        loss_and_gradient(jax.tree.map(lambda v, g, s=sign: v + s * step * g, variables, gradient))[0]
        for sign in (1, -1)
    )
    np.testing.assert_allclose((up - down) / (2 * step), length**2, rtol=0.02)


def test_distance_equals_scipy_and_ends_at_half_the_side():
    mask = jax.random.bernoulli(jax.random.key(5), 0.1, (4, 9, 12, 1))
    mask = mask.at[0].set(False).at[1].set(False).at[1, 0, 0].set(True).at[2].set(True)
    distance = jax.jit(losses.hole_distance)(mask)[..., 0]
    np.testing.assert_array_equal(distance[0], 6)  # nothing is known
    for image in range(1, 4):
        known = np.asarray(mask)[image, :, :, 0]
        expected = scipy.ndimage.distance_transform_cdt(~known, "chessboard") if known.any() else 0
        np.testing.assert_array_equal(distance[image], np.minimum(expected, 6))


@pytest.mark.parametrize("refined_weight", [1.0, 0.0])
def test_the_l1_of_two_stages(refined_weight):
    image, coarse = images()
    refined, mask = 0.5 * coarse, draw_mask()
    weight = jax.random.uniform(jax.random.key(6), mask.shape)
    found = losses.two_stage_l1_loss((coarse, refined), image, ~mask, weight, refined_weight=refined_weight)

    def mean_in_hole(prediction):
        error, hole = np.abs(image - prediction) * weight, np.broadcast_to(~mask, image.shape)
        return np.array([e[h].mean() if h.any() else 0 for e, h in zip(np.asarray(error), hole, strict=True)])

    expected = 1.2 * (1.2 * mean_in_hole(coarse) + refined_weight * mean_in_hole(refined))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_mask_of_numbers_is_refused():
    image, mask = jnp.ones((B, H, W, C)), jnp.ones((B, H, W, 1))
    with pytest.raises(AssertionError):
        losses.two_stage_l1_loss((image, image), image, mask, mask)
    with pytest.raises(AssertionError):
        losses.gradient_penalty_loss(jax.random.key(0), jnp.sum, image, image, mask)


def test_the_ring_beside_the_hole_counts_more():
    _, fake = images()
    image, mask = jnp.zeros_like(fake), jnp.ones((B, H, W, 1), bool).at[0, 2, 3].set(False)
    loss = losses.ringed_mse_loss(fake, image, mask, ring=1, ring_weight=10.0)
    window = np.square(np.asarray(fake[0, 1:4, 2:5], np.float64)).sum(axis=-1)
    expected = (10 * window.sum() - 9 * window[1, 1]) / (9 * fake.shape[-1])
    np.testing.assert_allclose(loss, [expected, *[0] * (B - 1)], rtol=1e-5)
