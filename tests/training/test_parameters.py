import chex
import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.models import image_np, parameters
from ifanp_jax.training import loop, optimizer

MODEL = image_np.IFNP(channels=3, width=4, latent_dim=2, encoder_depth=1, decoder_depth=1)


def test_the_key_decides_the_parameters():
    init = jax.jit(lambda key: parameters.init_variables(key, MODEL, (4, 5, 3)))
    first, other = init(jax.random.key(0)), init(jax.random.key(1))
    assert set(first) == {"params"}
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(first))
    chex.assert_trees_all_equal(first, init(jax.random.key(0)))
    kernels = (one["params"]["encoder1"]["Dense_0"]["kernel"] for one in (first, other))
    assert np.any(np.not_equal(*kernels))


def test_an_average_moves_by_its_decay_after_a_warm_up():
    average, params = {"w": jnp.float32(1)}, {"w": jnp.float32(3)}
    for step, decay in ((0, 0.1), (2, 3 / 12), (10_000, 0.9)):
        moved = optimizer.update_average(average, params, 0.9, jnp.int32(step))
        np.testing.assert_allclose(moved["w"], decay * 1 + (1 - decay) * 3, rtol=1e-6)
    assert optimizer.update_average(None, params, 0.9, jnp.int32(0)) is None


def test_count_parameters():
    assert parameters.count_parameters({"a": np.zeros((2, 3)), "b": [np.zeros(()), np.zeros(4)]}) == 11


def test_one_value_that_is_not_finite_is_found():
    assert loop.is_finite({"a": jnp.ones(3), "b": jnp.int32(1)})
    assert not loop.is_finite({"a": jnp.ones(3), "b": jnp.array([0.0, jnp.inf])})
