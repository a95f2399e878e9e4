"""The convolutions that contextual attention is compared with give the same."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import attention


def test_both_formulations_and_their_gradients_agree():
    features = jax.random.normal(jax.random.key(0), (2, 12, 16, 4))
    known = np.ones((2, 12, 16, 1), np.float32)
    known[0, 4:8, 6:10] = 0
    known[1, 5, 11] = 0.5

    def both(function):
        def loss(features):
            out = function(features, jnp.asarray(known))
            return jnp.sum(jnp.sin(out)), out

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(features)

    (_, expected), gradient = both(attention.ours)
    (_, found), found_gradient = both(attention.per_image_convolutions)
    chex.assert_trees_all_close(found, expected, atol=1e-5)
    chex.assert_trees_all_close(found_gradient, gradient, atol=1e-4)
