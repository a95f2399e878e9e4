import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters import critics


def count(module, shape):
    variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=True), jnp.ones(shape))
    assert set(variables) == {"params"}  # no statistics of a batch
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize(
    ("side", "num_local", "num_global"), [(256, 4_339_329, 2_733_441), (32, 1_030_273, 1_033_345)]
)
def test_published_parameter_counts(side, num_local, num_global):
    found = critics.deepfill_critics(side)
    assert count(found["local"], (1, side // 2, side // 2, 3)) == num_local
    assert count(found["global"], (1, side, side, 3)) == num_global


@pytest.mark.parametrize(("side", "num_convolutions"), [(16, 3), (32, 3), (64, 4), (128, 4)])
def test_smaller_images_have_fewer_convolutions(side, num_convolutions):
    for critic in critics.deepfill_critics(side).values():
        assert len(critic.widths) == num_convolutions


def test_scores_are_float32_one_per_image_and_alone_as_in_a_batch():
    critic = critics.ConvCritic((4, 8), dtype=jnp.bfloat16)
    x = jax.random.normal(jax.random.key(0), (3, 9, 8, 2))
    init = jax.jit(lambda x: critic.init_with_output(jax.random.key(1), x, train=True))
    scores, variables = init(x)
    chex.assert_shape(scores, (3,))
    chex.assert_type([scores, *jax.tree.leaves(variables)], jnp.float32)
    alone = [critic.apply(variables, x[image : image + 1], train=True)[0] for image in range(3)]
    np.testing.assert_allclose(scores, alone, rtol=1e-5)


def test_crops_are_each_image_s_own_and_pass_gradients_to_it():
    x = jnp.arange(2 * 5 * 6, dtype=jnp.float32).reshape(2, 5, 6, 1)
    start = jnp.array([[0, 3], [2, 1]])
    crops = jax.jit(critics.crop, static_argnums=2)(x, start, (3, 2))
    np.testing.assert_array_equal(crops[0], x[0, 0:3, 3:5])
    np.testing.assert_array_equal(crops[1], x[1, 2:5, 1:3])
    gradient = jax.jit(jax.grad(lambda x: critics.crop(x, start, (3, 2)).sum()))(x)
    expected = np.zeros(x.shape)
    expected[0, 0:3, 3:5] = expected[1, 2:5, 1:3] = 1
    np.testing.assert_array_equal(gradient, expected)
