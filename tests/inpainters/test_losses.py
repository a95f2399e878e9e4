import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from ifanp_jax.inpainters import critics, holes, losses
from tests import helpers

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


@jax.jit
def every_kind(real, fake):
    """Both losses by kind, and the gradient of the critics'."""

    def of_critics(real, fake):
        by_kind = {kind: losses.critic_loss(kind, real, fake) for kind in losses.KINDS}
        return sum(loss.sum() for loss in by_kind.values()), by_kind

    gradient, critic = jax.grad(of_critics, has_aux=True)(real, fake)
    return critic, {kind: losses.generator_loss(kind, fake) for kind in losses.KINDS}, gradient


def test_adversarial_losses():
    critic, generator, _ = every_kind(jnp.float32(REAL), jnp.float32(FAKE))
    chex.assert_trees_all_close((critic, generator), jax.tree.map(np.float32, (CRITIC, GENERATOR)), rtol=1e-6)
    scores = jnp.array([-1e4, 1e4, 0])
    chex.assert_tree_all_finite(every_kind(scores, -scores))


def images():
    return np.random.default_rng(0).uniform(-1, 1, (2, B, H, W, C)).astype(np.float32)


def draw_mask():
    """Random pixels, a full and an empty mask."""
    mask = helpers.random_mask(B, H, W, 1)
    mask[1], mask[2] = True, False
    return mask


def penalty(weights, mask):
    real, fake = images()

    def critic(x):
        return jnp.sum(x * weights[None], axis=(1, 2, 3)) + 5

    return losses.gradient_penalty_loss(jax.random.key(2), critic, real, fake, mask)


def test_penalty_of_a_linear_critic():
    @jax.jit
    def compute(weights, mask):
        gradient = jax.grad(lambda weights: penalty(weights, mask).sum())(weights)
        return penalty(weights, mask), gradient

    weights = np.random.default_rng(3).normal(size=(H, W, C)).astype(np.float32)
    mask = draw_mask()
    length = np.sqrt(np.sum((~mask * weights[None]) ** 2, axis=(1, 2, 3)))
    has_hole = ~mask.all(axis=(1, 2, 3))
    found, _ = compute(weights, mask)
    np.testing.assert_allclose(found, np.where(has_hole, 10 * (length - 1) ** 2, 0), rtol=1e-5)
    found, gradient = compute(np.zeros_like(weights), mask)  # a flat one
    np.testing.assert_allclose(found, 10 * has_hole, rtol=1e-5)
    chex.assert_tree_all_finite(gradient)


def test_penalty_is_taken_between_the_images():
    # D = |x|^2 / 2 has gradient x^, here 1 + 2t everywhere: t can be read off the loss.
    real, fake = jnp.ones((B, H, W, C)), jnp.full((B, H, W, C), 3.0)
    mask = jnp.zeros((B, H, W, 1), bool)

    def critic(x):
        return jnp.sum(jnp.square(x), axis=(1, 2, 3)) / 2

    loss = jax.jit(lambda *x: losses.gradient_penalty_loss(jax.random.key(4), critic, *x))(real, fake, mask)
    length = 1 + np.sqrt(np.asarray(loss) / 10)
    t = (length / np.sqrt(H * W * C) - 1) / 2
    assert ((t >= 0) & (t <= 1)).all() and len(set(t.tolist())) == B


def test_penalty_of_a_convolutional_critic_of_windows_equals_finite_differences():
    real, fake = images()
    mask, start = draw_mask(), jnp.array([[0, 1], [2, 3], [1, 4]])
    real, fake, mask = (holes.cut_window(x, start) for x in (real, fake, mask))
    critic = critics.ConvCritic((4, 4))
    shapes = jax.eval_shape(lambda x: critic.init(jax.random.key(7), x, train=True), real)
    variables = helpers.draw_variables(shapes)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(variables):
        def score(x):
            return critic.apply(variables, x, train=True)

        return losses.gradient_penalty_loss(jax.random.key(8), score, real, fake, mask).sum()

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
    mask = np.random.default_rng(5).random((4, 9, 12, 1)) < 0.1
    mask[0], mask[1], mask[2], mask[1, 0, 0] = False, False, True, True
    distance = jax.jit(losses.hole_distance)(mask)[..., 0]
    np.testing.assert_array_equal(distance[0], 6)  # nothing is known
    for image in range(1, 4):
        known = mask[image, :, :, 0]
        expected = scipy.ndimage.distance_transform_cdt(~known, "chessboard") if known.any() else 0
        np.testing.assert_array_equal(distance[image], np.minimum(expected, 6))


def test_a_mean_over_no_pixel_is_0():
    image, _ = images()
    found = losses.weighted_l1_loss(image, image + 1, ~draw_mask(), np.ones((B, H, W, 1)))
    np.testing.assert_allclose(found, [1, 0, 1], rtol=1e-6)


def test_a_mask_of_numbers_is_refused():
    image, mask = jnp.ones((B, H, W, C)), jnp.ones((B, H, W, 1))
    with pytest.raises(AssertionError):
        losses.weighted_l1_loss(image, image, mask, mask)
    with pytest.raises(AssertionError):
        losses.gradient_penalty_loss(jax.random.key(0), jnp.sum, image, image, mask)


def test_the_ring_beside_the_hole_counts_more():
    _, fake = images()
    image, mask = np.zeros_like(fake), np.ones((B, H, W, 1), bool)
    mask[0, 2, 3] = False
    loss = jax.jit(lambda *x: losses.ringed_mse_loss(*x, ring=1, ring_weight=10.0))(fake, image, mask)
    window = np.square(np.asarray(fake[0, 1:4, 2:5], np.float64)).sum(axis=-1)
    expected = (10 * window.sum() - 9 * window[1, 1]) / (9 * fake.shape[-1])
    np.testing.assert_allclose(loss, [expected, *[0] * (B - 1)], rtol=1e-5)
