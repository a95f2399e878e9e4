import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from ifanp_jax.inpainters import critics
from ifanp_jax.inpainters import losses as objectives

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


@pytest.mark.parametrize("kind", objectives.KINDS)
def test_adversarial_losses(kind):
    real, fake = jnp.asarray(REAL, jnp.float32), jnp.asarray(FAKE, jnp.float32)
    np.testing.assert_allclose(objectives.critic_loss(kind, real, fake), CRITIC[kind], rtol=1e-6)
    np.testing.assert_allclose(objectives.generator_loss(kind, fake), GENERATOR[kind], rtol=1e-6)


@pytest.mark.parametrize("kind", objectives.KINDS)
def test_large_scores_stay_finite(kind):
    scores = jnp.array([-1e4, 1e4])
    loss = jax.value_and_grad(lambda x: jnp.sum(objectives.critic_loss(kind, x, -x)))
    chex.assert_tree_all_finite(loss(scores))
    chex.assert_tree_all_finite(objectives.generator_loss(kind, scores))


def test_unknown_kind_raises():
    with pytest.raises(ValueError, match="wgan_gp"):
        objectives.generator_loss("wgan", jnp.zeros(2))


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

    return objectives.gradient_penalty_loss(jax.random.key(2), critic, real, fake, mask)


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
    loss = objectives.gradient_penalty_loss(
        jax.random.key(4), lambda x: jnp.sum(jnp.square(x), axis=(1, 2, 3)) / 2, real, fake, mask
    )
    length = 1 + np.sqrt(np.asarray(loss) / 10)
    t = (length / np.sqrt(H * W * C) - 1) / 2
    assert ((t >= 0) & (t <= 1)).all() and len(set(t.tolist())) == B


def test_penalty_of_a_convolutional_critic_on_crops_equals_finite_differences():
    real, fake = images()
    mask, start = draw_mask(), jnp.array([[0, 1], [2, 3], [1, 4]])
    real, fake, mask = (critics.crop(x, start, (4, 4)) for x in (real, fake, mask))
    critic = critics.ConvCritic((4, 4), kernel_size=3)
    variables = jax.jit(lambda x: critic.init(jax.random.key(7), x, train=True))(real)

    def loss(variables):
        return objectives.gradient_penalty_loss(
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


def box_mask(side, top, left, height, width):
    mask = np.ones((1, side, side, 1), bool)
    mask[0, top : top + height, left : left + width] = False
    return jnp.asarray(mask)


@pytest.mark.parametrize(("sides", "gamma", "mean"), [(128, 0.9, 0.2529), (64, 0.9, 0.4238)])
def test_mean_of_the_box_discount(sides, gamma, mean):
    start = jnp.array([[3, 5]])
    weight = objectives.discount(
        objectives.box_distance(start, (sides, sides), (2 * sides, 2 * sides)), gamma=gamma
    )
    inside = weight[0, 3 : 3 + sides, 5 : 5 + sides, 0]
    assert abs(float(inside.mean()) - mean) < 5e-5
    outside = weight.sum() - inside.sum()
    np.testing.assert_allclose(outside, 3 * sides**2, rtol=1e-5)


def test_box_distance_of_four_pixels():
    distance = objectives.box_distance(jnp.array([[0, 0], [2, 1]]), (4, 4), (6, 6))[..., 0]
    np.testing.assert_array_equal(distance[0, 2, :4], [0, 1, 2, 1])
    np.testing.assert_array_equal(distance[0, :4, 2], [0, 1, 2, 1])
    np.testing.assert_array_equal(distance[1, 4, :5], [0, 0, 1, 2, 1])


def test_mean_of_the_discount_by_known_pixels():
    mask = box_mask(256, 64, 64, 128, 128)
    weight = objectives.discount(jax.jit(objectives.hole_distance)(mask))
    assert abs(float(weight[~mask].mean()) - 0.8120) < 5e-5
    np.testing.assert_array_equal(weight[mask], 1)


def test_distance_equals_scipy_and_ends_at_half_the_side():
    mask = jax.random.bernoulli(jax.random.key(5), 0.1, (4, 9, 12, 1))
    mask = mask.at[0].set(False).at[1].set(False).at[1, 0, 0].set(True).at[2].set(True)
    distance = jax.jit(objectives.hole_distance)(mask)[..., 0]
    np.testing.assert_array_equal(distance[0], 6)  # nothing is known
    for image in range(1, 4):
        known = np.asarray(mask)[image, :, :, 0]
        expected = scipy.ndimage.distance_transform_cdt(~known, "chessboard") if known.any() else 0
        np.testing.assert_array_equal(distance[image], np.minimum(expected, 6))


def test_l1_and_autoencoder_terms():
    image, coarse = images()
    raw = 0.5 * coarse
    mask = draw_mask()
    weight = jax.random.uniform(jax.random.key(6), mask.shape)

    def mean_over(where, error):
        where = np.broadcast_to(where, error.shape)
        return np.array([e[k].mean() if k.any() else 0 for e, k in zip(error, where, strict=True)])

    x, x1, x2, known, w = (np.asarray(a) for a in (image, coarse, raw, mask, weight))
    for l1_weight in (1.0, 0.0):
        l1 = objectives.discounted_l1_loss(raw, coarse, image, mask, weight, l1_weight=l1_weight)
        errors = (np.abs(x - x1) * w, np.abs(x - x2) * w)
        expected = 1.2 * (1.2 * mean_over(~known, errors[0]) + l1_weight * mean_over(~known, errors[1]))
        np.testing.assert_allclose(l1, expected, rtol=1e-5, atol=1e-7)
        ae = objectives.autoencoder_loss(raw, coarse, image, mask, l1_weight=l1_weight)
        errors = (np.abs(x - x1), np.abs(x - x2))
        expected = 1.2 * (1.2 * mean_over(known, errors[0]) + l1_weight * mean_over(known, errors[1]))
        np.testing.assert_allclose(ae, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("call", ["l1", "penalty"])
def test_a_mask_of_numbers_is_refused(call):
    image, mask = jnp.ones((B, H, W, C)), jnp.ones((B, H, W, 1))
    with pytest.raises(AssertionError):
        if call == "l1":
            objectives.masked_l1_loss(image, image, mask, mask)
        else:
            objectives.gradient_penalty_loss(jax.random.key(0), jnp.sum, image, image, mask)


def test_the_ring_beside_the_hole_counts_more():
    _, fake = images()
    image, mask = jnp.zeros_like(fake), jnp.ones((B, H, W, 1), bool).at[0, 2, 3].set(False)
    loss = objectives.ringed_mse_loss(fake, image, mask, ring=1, ring_weight=10.0)
    window = np.square(np.asarray(fake[0, 1:4, 2:5], np.float64)).sum(axis=-1)
    expected = (10 * window.sum() - 9 * window[1, 1]) / (9 * fake.shape[-1])
    np.testing.assert_allclose(loss, [expected, *[0] * (B - 1)], rtol=1e-5)
