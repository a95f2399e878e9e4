"""The other implementations compute the same."""

import chex
import jax
import jax.numpy as jnp

from benchmarks import rivals
from ifanp_jax.modules import gca, lpa


def test_attention():
    keys = jax.random.split(jax.random.key(0), 3)
    theta = gca.to_ball(jax.random.normal(keys[0], (20, 5)))
    values = jax.random.normal(keys[1], (3, 20, 5))
    observed = jax.random.bernoulli(keys[2], 0.4, (3, 20)).at[:, 0].set(True)
    ours = gca.attend(theta, values, observed)
    chex.assert_trees_all_close(rivals.per_image_softmax(theta, values, observed), ours, atol=1e-5)
    chex.assert_trees_all_close(rivals.dot_product_attention(theta, values, observed), ours, atol=1e-5)


def test_pooling():
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 4))
    weights = lpa.window_weights(jnp.arange(1.0, 5.0))
    chex.assert_trees_all_close(rivals.depthwise_convolution(x, weights), lpa.pool(x, weights), atol=1e-6)
